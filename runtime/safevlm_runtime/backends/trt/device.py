"""The GPU, through the CUDA driver's own interface, which is the same for every version of CUDA.

A call gives a status and values; a status other than success is an error with the driver's name for it.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safevlm_runtime.backends.trt.flavor import EXTRAS, TITLES, FlavorName
from safevlm_sdk.errors import DeviceMissing, EngineError, MissingExtra

PACKAGE = "cuda-bindings"

_NAME_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One GPU with its primary context, which is current only in threads that called `use`.

    Attributes:
        driver: The module `cuda.bindings.driver`.
        context: Its primary context.
        name: The GPU's name.
        capability: Its compute capability, as "8.6".
    """

    driver: Any
    context: Any
    name: str
    capability: str

    def call(self, function: str, *arguments: Any) -> Any:
        """Calls the driver.

        Returns:
            None, or the one value that the function gives beside its status.

        Raises:
            EngineError: The driver refuses.
        """
        status, *values = getattr(self.driver, function)(*arguments)
        if status != self.driver.CUresult.CUDA_SUCCESS:
            raise EngineError(f"the GPU {self.name} failed at {function}: {_name_of(status)}; look at nvidia-smi")
        return values[0] if values else None

    def use(self) -> None:
        """Makes the GPU the calling thread's."""
        self.call("cuCtxSetCurrent", self.context)

    def busy(self, stream: Any) -> bool:
        """Whether a stream still has work to do.

        Raises:
            EngineError: The work failed.
        """
        status = self.driver.cuStreamQuery(stream)[0]
        if status == self.driver.CUresult.CUDA_ERROR_NOT_READY:
            return True
        if status != self.driver.CUresult.CUDA_SUCCESS:
            raise EngineError(f"the GPU {self.name} failed: {_name_of(status)}; look at nvidia-smi, and load again")
        return False


class Pinned:
    """Host memory that the GPU reads and writes directly."""

    def __init__(self, device: Device, size: int) -> None:
        self._device = device
        self.address = int(device.call("cuMemHostAlloc", size, 0))
        self._bytes = (ctypes.c_ubyte * size).from_address(self.address)

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """A view of its beginning; it must not outlive `free`."""
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(memoryview(self._bytes), dtype=dtype, count=count).reshape(shape)

    def free(self) -> None:
        """Gives it back."""
        self._device.call("cuMemFreeHost", self.address)


def open_device(flavor: FlavorName, index: int = 0) -> Device:
    """The GPU of this number, of those that CUDA_VISIBLE_DEVICES shows.

    Raises:
        MissingExtra: The driver's Python interface is not installed.
        DeviceMissing: There is no driver, or it shows no such GPU.
    """
    try:
        driver = import_module("cuda.bindings.driver")
    except ImportError as problem:
        raise MissingExtra(PACKAGE, EXTRAS[flavor]) from problem
    try:
        _ask(driver, "cuInit", 0)
        count = int(_ask(driver, "cuDeviceGetCount"))
        if index >= count:
            raise RuntimeError(f"it shows {count} GPUs")
        handle = _ask(driver, "cuDeviceGet", index)
        name = _ask(driver, "cuDeviceGetName", _NAME_BYTES, handle)
        kinds = driver.CUdevice_attribute
        major = _ask(driver, "cuDeviceGetAttribute", kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, handle)
        minor = _ask(driver, "cuDeviceGetAttribute", kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, handle)
        context = _ask(driver, "cuDevicePrimaryCtxRetain", handle)
    except Exception as problem:  # without a driver the interface raises errors of its own
        found = f"{problem}".splitlines()[0][:200] or type(problem).__name__
        raise DeviceMissing(
            f"{TITLES[flavor]} needs an NVIDIA GPU and its driver, and here is none ({found}); run `safevlm doctor`, "
            "or name a provider for this machine, such as cpu"
        ) from problem
    text = name.split(b"\0")[0].decode("utf-8", "replace")
    return Device(driver=driver, context=context, name=text, capability=f"{major}.{minor}")


def _ask(driver: Any, function: str, *arguments: Any) -> Any:
    status, *values = getattr(driver, function)(*arguments)
    if status != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"{function} gave {_name_of(status)}")
    return values[0] if values else None


def _name_of(status: Any) -> str:
    return str(getattr(status, "name", status))
