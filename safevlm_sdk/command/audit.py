"""`safevlm audit`: judge a whole data set."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from safevlm_sdk.command.audit_progress import shown
from safevlm_sdk.command.bundles import bundle_folders
from safevlm_sdk.command.extras import needs
from safevlm_sdk.command.printing import console, printable
from safevlm_sdk.policy import load_policy

FLAGGED, FAILED = 10, 1
LEVELS = ("low", "medium", "high")


def audit(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder of images, a .jsonl of paths, .parquet, tar shards as 'shard-{000..012}.tar', a folder of "
            "these, or a data set that Hugging Face saved to disk."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The audit's own folder; one that was interrupted is gone on with.")],
    bundle: Annotated[
        list[Path] | None,
        typer.Option("--bundle", "-b", help="A bundle's folder; repeat for several.", show_default="starter"),
    ] = None,
    starter: Annotated[
        bool, typer.Option("--starter", help="The bundle that comes with the SDK, beside --bundle.")
    ] = False,
    policy: Annotated[Path | None, typer.Option(help="A policy, instead of the bundle's own.")] = None,
    digest: Annotated[
        list[str] | None, typer.Option(help="Refuse a bundle with another digest (sha256:…); one per bundle.")
    ] = None,
    provider: Annotated[str, typer.Option(help="As for `safevlm check`.")] = "cpu",
    precision: Annotated[str | None, typer.Option(help="As for `safevlm check`.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Threads; with --ray, processes.", show_default="one per core")
    ] = None,
    kind: Annotated[
        Literal["folder", "jsonl", "parquet", "tar", "dataset"] | None,
        typer.Option(help="What SOURCE is to be taken for, where it could be several."),
    ] = None,
    column: Annotated[str | None, typer.Option(help="Of tables: the column that holds the images.")] = None,
    hash_hook: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FUNCTION", help="Asked for each image's SHA-256 before it is decoded."),
    ] = None,
    isolate: Annotated[bool, typer.Option("--isolate", help="Decode in a child process with limits.")] = False,
    allow_uncalibrated: Annotated[
        bool, typer.Option("--allow-uncalibrated", help="Load a bundle whose weights were never calibrated.")
    ] = False,
    ray: Annotated[bool, typer.Option("--ray", help="Judge on Ray, on this machine's cores.")] = False,
    ray_address: Annotated[str | None, typer.Option(help="Judge on this Ray cluster.")] = None,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", help="Put small, blurred pictures of flagged images into the report.")
    ] = False,
) -> None:
    """Judge every image of a data set, into verdicts.jsonl, verdicts.parquet and report.html.

    An interrupted audit goes on where it stopped when the same command is run again. A finished one is left alone.

    Exit code 0: nothing flagged; 10: something cautioned or blocked; 1: items failed, or the audit could not run.
    """
    needs("audit", "pyarrow")
    here = import_module("safevlm_runtime.audit")
    opened = here.open_source(source, kind, column)
    settings = here.JudgeSettings(
        bundles=bundle_folders(bundle, starter),
        digests=tuple(digest) if digest else None,
        policy=None if policy is None else load_policy(policy),
        provider=provider,
        precision=precision,
        hash_hook=hash_hook,
        isolate_decoding=isolate,
        allow_uncalibrated=allow_uncalibrated,
    )
    with here.Judge.load(settings) as judge, here.StopSignals() as stop:
        for warning in judge.runtime.warnings:
            typer.echo(f"warning: {printable(warning)}", err=True)
        make_pool = _pool_maker(judge, jobs, ray_address, ray=ray)
        with shown(opened) as done:
            judged = here.run_audit(opened, out, judge, make_pool, here.Watching(done=done, stop=lambda: stop.asked))
        if not judged:
            typer.echo(f"{printable(str(out))}: was finished before; nothing was judged", err=True)
    report = import_module("safevlm_runtime.audit.report")
    if judged or thumbnails or not (out / report.REPORT).exists():
        summary = report.write_report(out, thumbnails=thumbnails)
    else:
        summary = import_module("safevlm_runtime.audit.summary").summarise(report.read_rows(out / here.VERDICTS))
    _print_summary(summary, here.read_record(out))
    console().print(printable(f"report: {out / report.REPORT}"), markup=False, soft_wrap=True)
    if summary.total.failed:
        raise typer.Exit(FAILED)
    raise typer.Exit(FLAGGED if summary.total.flagged else 0)


def _pool_maker(judge: Any, jobs: int | None, ray_address: str | None, *, ray: bool) -> Callable[[Any], Any]:
    if ray or ray_address is not None:
        at = import_module("safevlm_runtime.audit.ray_pool")
        wanted = at.RaySettings(address=ray_address, workers=jobs)
        return lambda known: at.RayPool(judge.settings, wanted)
    local = import_module("safevlm_runtime.audit.local_pool")
    return lambda known: local.LocalPool(judge, jobs or _cores(), known)


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _print_summary(summary: Any, record: Any) -> None:
    total, page = summary.total, console()
    page.print(
        f"{total.images} images: {total.allow} allowed, {total.caution} cautioned, {total.block} blocked; of these "
        f"{total.failed} could not be judged, {total.duplicates} are copies of others"
    )
    for category, levels in summary.categories.items():
        found = ", ".join(f"{LEVELS[level - 1]} {number}" for level, number in levels.items() if number)
        page.print(printable(f"flagged as {category}: {found}"), markup=False)
    for label, number in summary.hooks.items():
        page.print(printable(f"named {label} by the hash hook: {number}"), markup=False)
    for code, number in summary.errors.items():
        page.print(f"not judged, {code}: {number}")
    for what, number in record.finished.passed_over.items():
        page.print(f"passed over: {number} {what}")
    page.print(f"looked for: {', '.join(record.covered)}; for nothing else")
    if record.uncovered:
        page.print(f"wanted by the policy but not covered: {', '.join(record.uncovered)}")
