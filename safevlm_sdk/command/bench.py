"""`safevlm bench`: what a gate costs on this machine, and one such result against another."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from safevlm_sdk.atomic import publish_file
from safevlm_sdk.command.printing import printable
from safevlm_sdk.errors import OptionError

bench_app = typer.Typer(
    help="Measure a gate on this machine; `safevlm bench compare A.json B.json` compares two results.",
    invoke_without_command=True,
    no_args_is_help=False,
)


@bench_app.callback()
def bench(
    context: typer.Context,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", "-b", help="A bundle's folder.", show_default="starter")
    ] = None,
    starter: Annotated[bool, typer.Option("--starter", help="The starter that comes with the SDK.")] = False,
    provider: Annotated[str, typer.Option(help="As for `safevlm check`. A demand, not a wish.")] = "cpu",
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16, bf16, int8, w8 or w4.", show_default="what is fastest there")
    ] = None,
    digest: Annotated[str | None, typer.Option(help="Refuse a bundle with another digest (sha256:…).")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file of the key that must have signed the bundle.")] = None,
    batch_size: Annotated[
        list[int] | None, typer.Option(help="Images per run of the graph; repeat.", show_default="1")
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(help="Threads within one operator; repeat.", show_default="the provider's")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="A folder of your own images, instead of drawn ones.")] = None,
    rounds: Annotated[int, typer.Option(help="Samples of every figure.")] = 30,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this file, as one line of JSON.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a PNG; needs the extra `bench`.")] = None,
) -> None:
    """Measure latency by step, throughput, start-up and memory of a gate, beside what the machine does at best.

    Prints a card and a table. A bundle that was never calibrated is measured like any other.

    Nothing else should run on the machine meanwhile.
    """
    if context.invoked_subcommand is not None:
        return
    if bundle is not None and starter:
        raise OptionError("both --bundle and --starter are given; give one of them")
    for out, suffix in ((json_out, ".json"), (plot, ".png")):
        if out is not None and (out.suffix.lower() != suffix or out.is_dir() or not out.absolute().parent.is_dir()):
            raise OptionError(f"{out} cannot be written: give a file that ends in {suffix}, in a folder that exists")
    drawing = import_module("safevlm_runtime.bench.plot")
    if plot is not None:
        drawing.require_plot()
    measuring, reporting = (import_module(f"safevlm_runtime.bench.{name}") for name in ("measure", "report"))
    folder = import_module("safevlm_runtime.bundle.loading").starter_folder() if bundle is None else bundle
    setup = import_module("safevlm_runtime.bench.subject").Setup(
        bundle=folder, provider=provider, precision=precision, digest=digest, public_key=key
    )
    plan = measuring.Plan(
        setup=setup,
        batch_sizes=tuple(batch_size or (1,)),
        threads=tuple(threads or (None,)),
        rounds=rounds,
        images=images,
    )
    result = measuring.run_bench(plan)
    _print([*reporting.card_lines(result), "", *reporting.table_lines(result)])
    if json_out is not None:
        line = import_module("safevlm_runtime.bench.result").to_line(result)
        publish_file(json_out, f"{line}\n".encode(), error=OptionError)
        typer.echo(f"result: {printable(str(json_out))}", err=True)
    if plot is not None:
        publish_file(plot, drawing.draw_plot(result), error=OptionError)


@bench_app.command("compare")
def compare(
    first: Annotated[Path, typer.Argument(help="A file of `safevlm bench --json`.")],
    second: Annotated[Path, typer.Argument(help="Another; ratios are this one over the first.")],
) -> None:
    """Compare two results: ratios of medians, with 95 % intervals over their rounds."""
    load = import_module("safevlm_runtime.bench.result").load_result
    found = import_module("safevlm_runtime.bench.compare").compare(load(first), load(second))
    _print(import_module("safevlm_runtime.bench.report").comparison_lines(found))


def _print(lines: list[str]) -> None:
    for line in lines:
        typer.echo(printable(line))
