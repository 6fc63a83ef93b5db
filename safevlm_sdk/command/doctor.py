"""`safevlm doctor`: what this machine can do, and what to install for the rest."""

from __future__ import annotations

import platform
from importlib import metadata
from importlib.util import find_spec

from rich.console import Console
from rich.table import Table

from safevlm_sdk.version import __version__

EXTRAS = {
    "cpu": ("onnxruntime",),
    "gpu": ("onnxruntime-gpu",),
    "export": ("torch", "transformers", "safetensors", "onnx", "onnxscript"),
    "train": ("torch", "transformers", "safetensors", "scipy"),
}


def doctor() -> None:
    """Print versions, execution providers, and the pip command for what is missing."""
    console = Console()
    console.print(
        f"safevlm-sdk {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    table = Table("extra", "can it be used", "packages", box=None, pad_edge=False)
    for extra, packages in EXTRAS.items():
        found = {package: _version(package) for package in packages}
        ready = all(found.values())
        listed = ", ".join(f"{package} {version or 'missing'}" for package, version in found.items())
        table.add_row(extra, "yes" if ready else f"no: pip install 'safevlm-sdk\\[{extra}]'", listed)
    console.print(table)
    if _version("onnxruntime") and _version("onnxruntime-gpu"):
        console.print(
            "onnxruntime and onnxruntime-gpu overwrite each other; run: "
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
        )
    console.print(f"execution providers: {', '.join(_providers()) or 'none: ONNX Runtime is not installed'}")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _providers() -> list[str]:
    """The providers that the installed ONNX Runtime was built with; a device may still be absent."""
    if find_spec("onnxruntime") is None:
        return []
    from importlib import import_module

    return list(import_module("onnxruntime").get_available_providers())
