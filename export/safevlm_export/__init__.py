"""From a SafeVLM checkpoint, or an existing image classifier, to a bundle.

Graphs, golden vectors, proof and manifest are written as one. Needs the extra `export`. Names are loaded when they
are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from safevlm_sdk.no_telemetry import keep_onnxruntime_quiet

if TYPE_CHECKING:
    from safevlm_export.classifier.export import export_from_hf, export_from_onnx
    from safevlm_export.export import ExportOptions, export_checkpoint
    from safevlm_export.report import ExportReport

_HOMES = {
    "ExportOptions": "safevlm_export.export",
    "ExportReport": "safevlm_export.report",
    "export_checkpoint": "safevlm_export.export",
    "export_from_hf": "safevlm_export.classifier.export",
    "export_from_onnx": "safevlm_export.classifier.export",
}

__all__ = ["ExportOptions", "ExportReport", "export_checkpoint", "export_from_hf", "export_from_onnx"]


# Modules of this package import ONNX Runtime when they are imported: the switch must stand before.
keep_onnxruntime_quiet()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
