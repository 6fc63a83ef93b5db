"""The commands' names, and what every one of them has in common: exit codes and one-line errors.

Exit codes: 0 all allowed or done, 10 something cautioned or blocked, 1 an input or the gate failed, 2 usage.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from safevlm_sdk.command import (
    audit,
    bundles,
    calibrate,
    check,
    doctor,
    evaluate,
    export,
    log,
    policies,
    serve,
    train,
)
from safevlm_sdk.command.bench import bench_app
from safevlm_sdk.command.hub import pull, push
from safevlm_sdk.command.printing import never_fail_on_a_character, printable
from safevlm_sdk.command.rtvlm import rtvlm_app
from safevlm_sdk.errors import SafeVLMError
from safevlm_sdk.version import __version__

FAILED = 1

app = typer.Typer(
    name="safevlm",
    help="Judge images before a vision-language model sees them; train, export and inspect the gate that does.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
policy_app = typer.Typer(help="Policies: what follows from a risk.", no_args_is_help=True)
policy_app.command("default")(policies.print_default)
policy_app.command("check")(policies.check_policy)
app.add_typer(policy_app, name="policy")
app.add_typer(rtvlm_app, name="rtvlm")
app.add_typer(bench_app, name="bench")
app.command("check")(check.check)
app.command("audit")(audit.audit)
app.command("verify")(bundles.verify)
app.command("inspect")(bundles.inspect)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("calibrate")(calibrate.calibrate)
app.command("export")(export.export)
app.command("sign")(export.sign_bundle)
app.command("pull")(pull)
app.command("push")(push)
app.command("serve")(serve.serve)
app.command("log")(log.log)
app.command("doctor")(doctor.doctor)

export_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
export_app.command("safevlm-export")(export.export)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Takes the options that stand before a command's name."""


def main() -> None:
    """Runs `safevlm`."""
    run(app)


def export_main() -> None:
    """Runs `safevlm-export`, which is `safevlm export`."""
    run(export_app)


def run(command: Callable[[], None]) -> None:
    """Turns the SDK's own errors, and a full disk, into a message; anything else is a bug and keeps its traceback."""
    never_fail_on_a_character()
    try:
        command()
    except SafeVLMError as error:
        lines = f"error: {error.code}: {error}".split("\n")  # several only where an error lists several rows
        print(*map(printable, lines), sep="\n", file=sys.stderr)
        raise SystemExit(FAILED) from error
    except OSError as error:
        print(printable(f"error: output_failed: {error}"), file=sys.stderr)
        raise SystemExit(FAILED) from error
