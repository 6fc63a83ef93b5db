"""Heat, clock, power and throttling of NVIDIA's GPUs, from the management library that comes with their driver."""

from __future__ import annotations

import ctypes
from typing import Any

from safevlm_runtime.bench.readings import Rail, Sensors

LIBRARIES = ("libnvidia-ml.so.1", "nvml.dll")
# Reasons for a lower clock: the power cap, and slowdowns by the hardware, by heat and by the power supply.
HELD_BACK = 0x4 | 0x8 | 0x20 | 0x40 | 0x80

_DIE, _MULTIPROCESSORS = 0, 1


def load_nvml() -> Any:
    """NVIDIA's management library, ready to be asked; None where there is none, as on a Jetson of old."""
    for name in LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        return library if library.nvmlInit_v2() == 0 else None
    return None


def gpu_sensors(nvml: Any) -> Sensors:
    """Those of every GPU, in the library's own order, which CUDA_VISIBLE_DEVICES does not change.

    Args:
        nvml: What `load_nvml` gave.
    """
    if nvml is None:
        return Sensors()
    count = ctypes.c_uint()
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return Sensors()
    celsius, mhz, held_back, rails = {}, {}, {}, []
    for index in range(count.value):
        handle = ctypes.c_void_p()
        if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            continue
        name, gpu = f"GPU {index}", _Gpu(nvml, handle)
        celsius[name], mhz[name], held_back[name] = gpu.celsius, gpu.mhz, gpu.held_back
        counts = gpu.joules() is not None  # GPUs before Volta have no counter
        rails.append(Rail(name=name, read=gpu.joules if counts else gpu.watts, counts=counts))
    readable = tuple(rail for rail in rails if rail.read() is not None)
    silent = tuple(rail.name for rail in rails if rail not in readable)
    return Sensors(celsius=celsius, mhz=mhz, held_back=held_back, rails=readable, silent=silent)


class _Gpu:
    """One GPU; every method is a `Reading`."""

    def __init__(self, nvml: Any, handle: ctypes.c_void_p) -> None:
        self._nvml, self._handle = nvml, handle

    def celsius(self) -> float | None:
        """Of the die."""
        return self._ask("nvmlDeviceGetTemperature", ctypes.c_uint(), _DIE)

    def mhz(self) -> float | None:
        """Of the multiprocessors."""
        return self._ask("nvmlDeviceGetClockInfo", ctypes.c_uint(), _MULTIPROCESSORS)

    def joules(self) -> float | None:
        """Since the driver was loaded."""
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong())
        return None if millijoules is None else millijoules / 1e3

    def watts(self) -> float | None:
        """At this moment."""
        milliwatts = self._ask("nvmlDeviceGetPowerUsage", ctypes.c_uint())
        return None if milliwatts is None else milliwatts / 1e3

    def held_back(self) -> float | None:
        """Above 0 while its clock is lower than it could be for want of power or for heat."""
        reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", ctypes.c_ulonglong())
        return None if reasons is None else float(int(reasons) & HELD_BACK)

    def _ask(self, function: str, value: Any, *arguments: Any) -> float | None:
        """What the function writes into its last argument; None if it refuses."""
        failed = getattr(self._nvml, function)(self._handle, *arguments, ctypes.byref(value))
        return None if failed else float(value.value)
