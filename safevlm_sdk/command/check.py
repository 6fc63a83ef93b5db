"""`safevlm check`: judge images."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from safevlm_sdk.policy import Action
from safevlm_sdk.verdict import Verdict

ACTED, FAILED = 10, 1
COLOURS = {Action.ALLOW: "green", Action.CAUTION: "yellow", Action.BLOCK: "red"}


def check(
    images: Annotated[list[Path], typer.Argument(help="Image files (JPEG, PNG, WebP, GIF).")],
    bundle: Annotated[
        list[Path] | None, typer.Option("--bundle", "-b", help="A bundle's folder; repeat for several. [starter]")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="A policy, instead of the bundle's own.")] = None,
    digest: Annotated[str | None, typer.Option(help="Refuse a bundle with another digest (sha256:…).")] = None,
    provider: Annotated[str, typer.Option(help="Execution provider: cpu or cuda. A demand, not a wish.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per image.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.")] = None,
    isolate: Annotated[bool, typer.Option("--isolate", help="Decode in a child process with limits.")] = False,
    allow_uncalibrated: Annotated[
        bool, typer.Option("--allow-uncalibrated", help="Load a bundle whose weights were never calibrated.")
    ] = False,
) -> None:
    """Judge images; without --bundle, with the starter that comes with the SDK.

    Exit code 0: all allowed; 10: something cautioned or blocked; 1: an image or the gate failed.
    """
    runtime_class = import_module("safevlm_runtime").Runtime
    options: dict[str, Any] = {
        "policy": policy,
        "digest": digest,
        "provider": provider,
        "isolate_decoding": isolate,
        "allow_uncalibrated": allow_uncalibrated,
    }
    runtime = runtime_class.load(*bundle, **options) if bundle else runtime_class.starter(**options)
    with runtime:
        verdicts: list[Verdict] = []
        for path in images:
            verdicts.append(runtime.check(path))
            if as_json:
                typer.echo(json.dumps({"path": str(path), **verdicts[-1].to_dict()}, ensure_ascii=False))
    if not as_json:
        _print_table(images, verdicts)
    if report is not None:
        pages = import_module("safevlm_runtime.report")
        pages.write_report(report, images, verdicts, runtime.raster_max_side)
        Console(stderr=True).print(f"report: {report}", soft_wrap=True, highlight=False)
    raise typer.Exit(_exit_code(verdicts))


def _exit_code(verdicts: list[Verdict]) -> int:
    if any(verdict.error is not None for verdict in verdicts):
        return FAILED
    return ACTED if any(not verdict.allowed for verdict in verdicts) else 0


def _print_table(images: list[Path], verdicts: list[Verdict]) -> None:
    console = Console()
    table = Table(box=None, pad_edge=False)
    table.add_column("image", overflow="fold", ratio=2)
    for name in ("action", "category", "level", "score", "ms"):
        table.add_column(name, no_wrap=True)
    table.add_column("reason", overflow="fold", ratio=3)
    for name, verdict in zip(_short_names(images), verdicts, strict=True):
        table.add_row(
            Text(name),
            Text(verdict.action.value, style=COLOURS[verdict.action]),
            verdict.category or "",
            "" if verdict.level is None else verdict.level.name.lower(),
            "" if verdict.score is None else f"{verdict.score:.3f}",
            f"{verdict.timings_ms['total']:.1f}",
            Text(_reason(verdict)),
        )
    console.print(table)
    covered, uncovered = verdicts[0].covered, verdicts[0].uncovered
    console.print(f"looked for: {', '.join(covered)}; for nothing else", highlight=False)
    if uncovered:
        console.print(f"wanted by the policy but not covered: {', '.join(uncovered)}", highlight=False)


def _short_names(images: list[Path]) -> list[str]:
    """The paths without the folder that all of them share."""
    if len({path.parent for path in images}) == 1:
        return [path.name for path in images]
    return [str(path) for path in images]


def _reason(verdict: Verdict) -> str:
    if verdict.error is not None:
        return f"{verdict.error}: {verdict.reason}"
    return "" if verdict.allowed else verdict.reason
