"""What runs the proofs: int8 kernels, and thus their results, depend on the processor's instructions."""

from __future__ import annotations

import platform
from pathlib import Path

import onnxruntime

CPU_INFO = Path("/proc/cpuinfo")
INSTRUCTIONS = ("amx_int8", "avx512_vnni", "avx_vnni", "avx512f", "avx2", "i8mm", "asimddp")


def this_machine(engine: str | None = None) -> str:
    """An engine's version and the processor's kind, as "ONNX Runtime 1.31.1, CPU x86_64 avx512_vnni avx2".

    Args:
        engine: Its name and version; None is ONNX Runtime.
    """
    words = [platform.machine(), *_instructions()]
    return f"{engine or f'ONNX Runtime {onnxruntime.__version__}'}, CPU {' '.join(words)}"


def _instructions() -> list[str]:
    """Those that matter for integers; nothing where the system does not tell."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    flags = {
        flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split(":", 1)[1].split()
    }
    return [name for name in INSTRUCTIONS if name in flags]
