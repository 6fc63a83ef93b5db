"""`safevlm doctor`: what this machine can do, and what to install for the rest."""

from __future__ import annotations

import platform
from importlib import import_module, metadata
from importlib.util import find_spec

from rich.table import Table
from rich.text import Text

from safevlm_sdk.command.printing import console
from safevlm_sdk.version import __version__

_SWAP = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'safevlm-sdk[{}]'"

EXTRAS = {
    "cpu": ("onnxruntime",),
    "gpu": ("onnxruntime-gpu",),
    "export": ("torch", "transformers", "safetensors", "onnx", "onnxscript"),
    "calibrate": ("scipy",),
    "train": ("torch", "transformers", "safetensors", "scipy"),
}


def doctor() -> None:
    """Print versions, execution providers, and the pip command for what is missing."""
    shown = console()
    shown.print(
        f"safevlm-sdk {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    table = Table("extra", "can it be used", "packages", box=None, pad_edge=False)
    for extra, packages in EXTRAS.items():
        found = {package: _version(package) for package in packages}
        listed = ", ".join(f"{package} {version or 'missing'}" for package, version in found.items())
        table.add_row(extra, Text("yes" if all(found.values()) else f"no; {_install(extra)}"), listed)
    shown.print(table)
    if _version("onnxruntime") and _version("onnxruntime-gpu"):
        shown.print("onnxruntime and onnxruntime-gpu overwrite each other; run: " + _SWAP.format("gpu"), markup=False)
    shown.print(f"execution providers: {_providers()}")


def _install(extra: str) -> str:
    if extra == "gpu" and _version("onnxruntime"):
        return f"instead of cpu: {_SWAP.format('gpu')}"
    if extra == "cpu" and _version("onnxruntime-gpu"):
        return f"instead of gpu: {_SWAP.format('cpu')}"
    return f"pip install 'safevlm-sdk[{extra}]'"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _providers() -> str:
    """The providers that the installed ONNX Runtime was built with; a device may still be absent."""
    if find_spec("onnxruntime") is None:
        return "none: ONNX Runtime is not installed"
    try:
        return ", ".join(import_module("onnxruntime").get_available_providers())
    except Exception as problem:  # a broken installation fails in any way it likes
        return f"none: ONNX Runtime does not load ({type(problem).__name__}); install it again"
