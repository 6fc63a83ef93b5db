"""The step of an export that builds engines: checked before the long work, done after the proof."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from safevlm_export.proving import Proven
from safevlm_export.report import ExportReport
from safevlm_export.trt.build_kit import require_kit_publishable, write_build_kit
from safevlm_export.trt.engines import build_engines, with_engines
from safevlm_export.trt.targets import TrtOptions, plan
from safevlm_sdk.manifest import Manifest


def check_trt(options: TrtOptions | None, out: Path) -> None:
    """Refuses, before long work, what could not be done after it.

    Raises:
        MissingExtra: TensorRT-RTX is not installed.
        OptionError, DeviceMissing: The target cannot be built for here.
        ExportError: Something else lies where the kit would be written.
    """
    if options is not None:
        plan(options)
        require_kit_publishable(out)


def with_trt(
    options: TrtOptions | None, manifest: Manifest, proven: Proven, finish: Callable[[Manifest, Proven], ExportReport]
) -> ExportReport:
    """Finishes an export, with engines of its graphs if they are wanted, and the kit for those of other machines.

    Args:
        options: None builds nothing.
        manifest: Complete but for its digest and the digests of its files.
        proven: Its graphs.
        finish: Writes the bundle of a manifest and its files.

    Raises:
        EngineBuildError: An engine cannot be built; nothing is written.
        ExportError: The kit cannot be written; the bundle is in place.
    """
    if options is None:
        return finish(manifest, proven)
    engines = build_engines(manifest, proven.data, plan(options), options.batches, options.progress)
    ready = replace(proven, data={**proven.data, **engines.data})
    report = finish(with_engines(manifest, engines), ready)
    kit = write_build_kit(report.out, report.manifest, engines)
    note = f"wrote {kit}: graphs and commands, to build engines where their GPU is"
    return replace(report, notes=(*report.notes, *engines.lines(), note))
