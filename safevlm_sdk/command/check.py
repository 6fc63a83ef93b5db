"""`safevlm check`: judge images."""

from __future__ import annotations

import json
import os.path
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from safevlm_sdk.command.bundles import bundle_folders
from safevlm_sdk.command.printing import console, printable
from safevlm_sdk.policy import Action
from safevlm_sdk.policy_fit import unknown_source
from safevlm_sdk.verdict import Verdict

ACTED, FAILED = 10, 1
COLOURS = {Action.ALLOW: "green", Action.CAUTION: "yellow", Action.BLOCK: "red"}


def check(
    images: Annotated[list[Path], typer.Argument(help="Image files (JPEG, PNG, WebP, GIF), and videos.")],
    bundle: Annotated[
        list[Path] | None,
        typer.Option("--bundle", "-b", help="A bundle's folder; repeat for several.", show_default="starter"),
    ] = None,
    starter: Annotated[
        bool, typer.Option("--starter", help="The starter that comes with the SDK, beside --bundle.")
    ] = False,
    policy: Annotated[Path | None, typer.Option(help="A policy, instead of the bundle's own.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Where the images come from, by the policy's name for it.")
    ] = None,
    digest: Annotated[
        list[str] | None, typer.Option(help="Refuse a bundle with another digest (sha256:…); one per bundle.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file of the key that must have signed every bundle.")] = None,
    provider: Annotated[
        str,
        typer.Option(
            help="cpu, cuda, tensorrt, tensorrt-rtx, ort-tensorrt, ort-tensorrt-rtx, openvino, openvino:GPU or "
            "openvino:NPU. A demand, not a wish."
        ),
    ] = "cpu",
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16, bf16, int8, w8 or w4.", show_default="what is fastest there")
    ] = None,
    engine_seconds: Annotated[
        float, typer.Option(help="Stop a run of a graph that takes longer, per image of its batch.")
    ] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per image.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.")] = None,
    isolate: Annotated[bool, typer.Option("--isolate", help="Decode in a child process with limits.")] = False,
    allow_uncalibrated: Annotated[
        bool, typer.Option("--allow-uncalibrated", help="Load a bundle whose weights were never calibrated.")
    ] = False,
    every_seconds: Annotated[float, typer.Option(help="Of a video: judge one frame per so many seconds.")] = 1.0,
    max_frames: Annotated[int, typer.Option(help="Of a video: refuse one that takes more frames.")] = 64,
) -> None:
    """Judge images; without --bundle, with the starter that comes with the SDK.

    The worst decision of several bundles wins. Digests stand in the order of --bundle, the starter's last.

    Videos (MP4, MOV, Matroska, WebM) need the extra `video`. For a folder, see `safevlm audit`.

    Exit code 1: an image or the gate failed, whatever else was found.

    Otherwise 10: something was cautioned or blocked. Otherwise 0: all images were allowed.
    """
    runtime_class = import_module("safevlm_runtime").Runtime
    if report is not None:
        import_module("safevlm_runtime.report").require_writable(report, images)
    with runtime_class.load(
        *bundle_folders(bundle, starter),
        policy=policy,
        digest=digest or None,
        public_key=key,
        provider=provider,
        precision=precision,
        engine_seconds=engine_seconds,
        isolate_decoding=isolate,
        allow_uncalibrated=allow_uncalibrated,
    ) as runtime:
        unknown = unknown_source(source, runtime.sources)
        for warning in (*runtime.warnings, *([] if unknown is None else [unknown])):
            typer.echo(f"warning: {printable(warning)}", err=True)
        verdicts: list[Verdict] = []
        for path in images:
            if _is_video(path):
                verdicts.append(
                    runtime.check_video(path, every_seconds=every_seconds, max_frames=max_frames, source=source)
                )
            else:
                verdicts.append(runtime.check(path, source=source))
            if as_json:
                typer.echo(json.dumps({"path": str(path), **verdicts[-1].to_dict()}))
        if not as_json:
            _print_table(images, verdicts)
        if report is not None:
            import_module("safevlm_runtime.report").write_report(report, images, verdicts, runtime.raster)
            typer.echo(f"report: {printable(str(report))}", err=True)
    for path in filter(os.path.isdir, images):
        typer.echo(printable(_about_folder(path)), err=True)
    raise typer.Exit(_exit_code(verdicts))


def _is_video(path: Path) -> bool:
    """Whether a file begins as a video; what cannot be read is left to the check."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return bool(import_module("safevlm_runtime.judging.video").is_video(file.read(12)))
    except OSError:
        return False


def _about_folder(path: Path) -> str:
    """What to type instead of a folder."""
    return f"hint: {path} is a folder: check its files ({path}/*), or all below it: safevlm audit {path} --out audit"


def _exit_code(verdicts: list[Verdict]) -> int:
    if any(verdict.error is not None for verdict in verdicts):
        return FAILED
    return ACTED if any(not verdict.allowed for verdict in verdicts) else 0


def _print_table(images: list[Path], verdicts: list[Verdict]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("image", overflow="fold", min_width=12)
    for name in ("action", "category", "level", "score", "ms"):
        table.add_column(name, no_wrap=True)
    table.add_column("reason", overflow="fold", min_width=8)
    for name, verdict in zip(_short_names(images), verdicts, strict=True):
        table.add_row(
            Text(printable(name)),
            Text(_action(verdict), style=COLOURS[verdict.action]),
            verdict.category or "",
            "" if verdict.level is None else verdict.level.name.lower(),
            "" if verdict.score is None else f"{verdict.score:.3f}",
            f"{verdict.timings_ms['total']:.1f}",
            Text(printable(_reason(verdict))),
        )
    shown = console()
    shown.print(table)
    covered, uncovered = verdicts[0].covered, verdicts[0].uncovered
    shown.print(f"looked for: {', '.join(covered)}; for nothing else")
    if uncovered:
        shown.print(f"wanted by the policy but not covered: {', '.join(uncovered)}")


def _action(verdict: Verdict) -> str:
    """The action, and the one that a policy which only observes keeps back."""
    if verdict.observed is None or verdict.observed is verdict.action:
        return verdict.action.value
    return f"{verdict.action.value} (observed: {verdict.observed.value})"


def _short_names(images: list[Path]) -> list[str]:
    """The paths without the folder that all of them share."""
    if len({path.parent for path in images}) == 1:
        return [path.name for path in images]
    return [str(path) for path in images]


def _reason(verdict: Verdict) -> str:
    if verdict.error is not None:
        return f"{verdict.error}: {verdict.reason}"
    return "" if verdict.allowed and verdict.observed in (None, Action.ALLOW) else verdict.reason
