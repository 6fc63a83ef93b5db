"""`safevlm calibrate`: thresholds that keep a bound on one's own images."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from safevlm_sdk.command.extras import needs
from safevlm_sdk.command.printing import console, printable
from safevlm_sdk.errors import CalibrationError


def calibrate(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT|BUNDLE", help="The folder; it stays as it is.")],
    safe: Annotated[Path, typer.Option(help="Harmless images: a folder, or JSON lines with `image` and `group`.")],
    out: Annotated[Path, typer.Option(help="The new folder; an older one of its kind there is replaced atomically.")],
    risky: Annotated[
        Path | None, typer.Option(help="Risky images: a folder of folders named after risks, or JSON lines.")
    ] = None,
    flag_at_most: Annotated[
        float | None,
        typer.Option(
            help="Share of independent groups of harmless images that may be anything but allowed, as 0.005."
        ),
    ] = None,
    miss_at_most: Annotated[
        float | None,
        typer.Option(help="Share of independent groups of risky images, per category, that may be allowed, as 0.01."),
    ] = None,
    confidence: Annotated[float, typer.Option(help="In all bounds together.")] = 0.95,
    page: Annotated[Path | None, typer.Option(help="The HTML page that says what changed. [OUT.html]")] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="The policy that the bounds are to hold under.", show_default="the bundle's own"),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(help="Look at tiles of so many pixels too; with --overlap and --max-views, for a bundle."),
    ] = None,
    overlap: Annotated[int | None, typer.Option(help="Pixels that neighbouring tiles share at least.")] = None,
    max_views: Annotated[int | None, typer.Option(help="Most views of a frame; more are refused.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Set thresholds so that a bound on flags, on misses, or on both holds on images like yours.

    A bound is on independent groups of images: a group of near-duplicates counts once, by its worst image. Bounds are
    exact for the number of groups given. One that they cannot show is refused, with what it would take.

    With --tile the new bundle judges every frame as a whole and in tiles, and its thresholds are set on the worst of
    all its views. Without, it keeps the views that it has.

    Needs no torch for a bundle.
    """
    if flag_at_most is None and miss_at_most is None:
        raise typer.BadParameter("give --flag-at-most, --miss-at-most or both")
    if miss_at_most is not None and risky is None:
        raise typer.BadParameter("--miss-at-most needs --risky: images of every covered risk")
    if len({tile is None, overlap is None, max_views is None}) > 1:
        raise typer.BadParameter("--tile, --overlap and --max-views belong together: give all of them, or none")
    needs("calibrate", "scipy")
    demand = import_module("safevlm_sdk.calibration.choose").Demand(
        flag_at_most=flag_at_most, miss_at_most=miss_at_most, confidence=confidence
    )
    requests = import_module("safevlm_sdk.calibration.request")
    request = requests.Request(
        safe=safe, risky=risky, demand=demand, out=out, page=page, policy=policy, progress=_shown,
        tiling=None if tile is None else requests.Tiling(tile=tile, overlap=overlap, max_views=max_views),
    )  # fmt: skip
    written = _calibrator(source)(source, request)
    if as_json:
        typer.echo(json.dumps(written.to_dict()))
    else:
        _print(written)


def _calibrator(source: Path) -> Any:
    """What calibrates this kind of folder."""
    if (source / "manifest.json").exists():
        needs("cpu", "onnxruntime")
        return import_module("safevlm_runtime.calibrate.bundle").calibrate_bundle
    if (source / "config.json").exists():
        needs("train", "torch", "transformers", "safetensors", "scipy")
        return import_module("safevlm_training.calibrate_checkpoint").calibrate_checkpoint
    raise CalibrationError(
        f"{source}: is neither a bundle (no manifest.json) nor a checkpoint (no config.json); give the folder that "
        "`safevlm-export` or `safevlm train` wrote"
    )


def _shown(images: Sequence[Any]) -> Any:
    """The images, with a bar on a terminal."""
    shown = Console(stderr=True)
    return track(images, description="judging", console=shown, transient=True) if sys.stderr.isatty() else images


def _print(written: Any) -> None:
    note = import_module("safevlm_sdk.calibration.note")
    found, shown = written.outcome, console()
    for rate in found.record.rates:
        shown.print(printable(note.sentence(rate)), markup=False)
    page = import_module("safevlm_sdk.calibration.page")
    shown.print(page.images_flagged(found))
    shown.print(page.than_before(found), soft_wrap=True)
    before, after = found.subject.rule, found.thresholds
    for name in before.covered:
        shown.print(f"threshold on {name}: {before.thresholds[name]:.6g} -> {after.categories[name]:.6g}")
    shown.print(f"threshold on any risk: {before.any_threshold:.6g} -> {after.any:.6g}")
    shown.print(f"temperature: {before.temperature:.6g} -> {found.calibration.temperature:.6g}")
    if written.warning:
        shown.print(printable(written.warning), markup=False)
    if found.record.failed:
        shown.print(f"the gate failed on {found.record.failed} images; the page lists them")
    for text in written.notes:
        shown.print(printable(text), markup=False)
    shown.print(f"digest: {written.digest}", soft_wrap=True)
    shown.print(printable(f"written: {written.out}"), markup=False, soft_wrap=True)
    shown.print(printable(f"page: {written.page}"), markup=False, soft_wrap=True)
