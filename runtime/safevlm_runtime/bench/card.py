"""On what machine, with which versions, and how busy that machine was."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from safevlm_runtime.bench.result import Card
from safevlm_sdk import machine

PACKAGES = (
    "safevlm-sdk",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-rtx-cu13",
    "openvino",
    "numpy",
    "pillow",
)


def machine_card() -> Card:
    """Machine and versions; what is not known is None."""
    return Card(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        gpus=tuple(gpu.name for gpu in machine.driver().gpus),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        packages={package: _version(package) for package in PACKAGES},
    )


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
