"""What this machine has: its GPUs and driver, and engines that really load.

`python -m safevlm_sdk.machine` prints the engines as JSON. `engines` runs it as a process of its own, since a library
that was made for another driver may end the process that loads it.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import warnings
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safevlm_sdk.no_telemetry import import_onnxruntime, import_openvino

MODULES = ("tensorrt", "tensorrt_rtx", "openvino")
SECONDS = 120.0

# A graph of one Identity from x to y, float32 [1], opset 13: what a provider must be able to run at the very least.
IDENTITY = (
    b'\x08\x07:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)

_DRIVERS = ("libcuda.so.1", "nvcuda.dll")
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_NAME_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU; `capability` is its compute capability, as "8.9"."""

    name: str
    capability: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """The CUDA driver.

    Attributes:
        version: The CUDA version that it supports, as "13.0"; None without a driver.
        gpus: What it shows.
        problem: Why there is nothing to show.
    """

    version: str | None
    gpus: tuple[Gpu, ...]
    problem: str | None


def driver() -> Driver:
    """Asks the driver's own library; without one, that is what it says."""
    library = None
    for name in _DRIVERS:
        try:
            library = ctypes.CDLL(name)
            break
        except OSError:
            continue
    if library is None:
        return Driver(version=None, gpus=(), problem="no NVIDIA driver (libcuda) is here")
    number = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(number))
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    failed = library.cuInit(0)
    if failed:
        return Driver(version=version, gpus=(), problem=f"the driver shows no GPU (cuInit gave {failed})")
    count = ctypes.c_int()
    library.cuDeviceGetCount(ctypes.byref(count))
    return Driver(version=version, gpus=tuple(_gpu(library, index) for index in range(count.value)), problem=None)


def tegra_release() -> str | None:
    """The release of Jetson Linux; None on other machines."""
    try:
        return Path("/etc/nv_tegra_release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def engines() -> dict[str, Any]:
    """What `probe` finds in a process of its own: {"providers": …, "modules": …}, or {"problem": …} if that dies."""
    command = [sys.executable, "-m", "safevlm_sdk.machine"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)  # noqa: S603 - ourselves
        if done.returncode:
            return {"problem": f"looking at the engines ended with exit code {done.returncode}"}
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as problem:
        return {"problem": f"the engines could not be looked at ({type(problem).__name__})"}
    return found


def probe() -> dict[str, Any]:
    """Loads what is installed and tries it.

    Returns:
        `providers`: name of an ONNX Runtime provider to None, or to why it makes no session; `modules`: name of an
        engine's module to {"version", "problem"}, for those that are installed.
    """
    modules = {}
    for name in MODULES:
        if find_spec(name) is not None:
            modules[name] = _module(name)
    return {"providers": _providers(), "modules": modules}


def _gpu(library: ctypes.CDLL, index: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    library.cuDeviceGet(ctypes.byref(device), index)
    library.cuDeviceGetName(name, _NAME_BYTES, device)
    library.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    library.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    return Gpu(name=name.value.decode("utf-8", "replace"), capability=f"{major.value}.{minor.value}")


def _module(name: str) -> dict[str, str | None]:
    try:
        module = import_openvino() if name == "openvino" else import_module(name)
        version = str(getattr(module, "__version__", "unknown"))
    except Exception as problem:  # a broken installation fails in any way it likes
        return {"version": None, "problem": f"does not load: {_line(problem)}"}
    return {"version": version, "problem": None}


def _providers() -> dict[str, str | None]:
    if find_spec("onnxruntime") is None:
        return {}
    try:
        ort = import_onnxruntime()
        return {str(name): _provider_problem(ort, name) for name in ort.get_available_providers()}
    except Exception as problem:
        return {"onnxruntime": f"does not load: {_line(problem)}"}


def _provider_problem(ort: Any, name: str) -> str | None:
    """None if a session on this provider exists and is on it: ONNX Runtime lists what it was built with."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            session = ort.InferenceSession(IDENTITY, providers=[name], enable_fallback=0)
    except Exception as problem:
        return f"makes no session: {_line(problem)}"
    in_use = session.get_providers()
    if not in_use or in_use[0] != name:
        return f"is listed, but a session is on {', '.join(in_use) or 'nothing'} instead"
    return None


def _line(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}".splitlines()[0][:200]


if __name__ == "__main__":
    print(json.dumps(probe()))
