"""The card every benchmark prints first: on what machine, with which versions."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("safevlm-sdk", "onnxruntime", "onnxruntime-gpu", "numpy", "pillow")


def machine_card() -> dict[str, Any]:
    """Machine and versions; what is not known is None."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in PACKAGES},
    }


def print_card(card: dict[str, Any]) -> None:
    """Prints the card, one line per entry."""
    for name, value in card.items():
        print(f"{name}: {value}")


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
