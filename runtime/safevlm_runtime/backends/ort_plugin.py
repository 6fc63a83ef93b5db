"""TensorRT-RTX as a plugin of ONNX Runtime: a library that is registered once for the whole process."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from safevlm_sdk.errors import DeviceMissing, MissingExtra, ProviderError

PLUGIN = "NvTensorRTRTXExecutionProvider"
MODULE = "onnxruntime_ep_nv_tensorrt_rtx"
PACKAGE = "onnxruntime-ep-nv-tensorrt-rtx"
EXTRA = "trt-rtx"


def plugin_devices(ort: Any) -> list[Any]:
    """The devices that the plugin offers; registers it first if that was not done.

    Args:
        ort: The module `onnxruntime`.

    Raises:
        MissingExtra: The plugin is not installed.
        ProviderError: ONNX Runtime knows no plugins, or this one does not load.
        DeviceMissing: It loads, and offers no GPU.
    """
    if not hasattr(ort, "register_execution_provider_library"):
        raise ProviderError(
            f"onnxruntime {ort.__version__} takes no plugins, and {PLUGIN} is one; run: "
            "pip install --upgrade 'onnxruntime>=1.24'"
        )
    devices = _devices(ort)
    if not devices:
        _register(ort)
        devices = _devices(ort)
    if not devices:
        raise DeviceMissing(
            f"{PLUGIN} offers no GPU; it needs one of the Ampere generation or later: run `safevlm doctor`"
        )
    return devices


def _devices(ort: Any) -> list[Any]:
    return [device for device in ort.get_ep_devices() if device.ep_name == PLUGIN]


def _register(ort: Any) -> None:
    try:
        plugin = import_module(MODULE)
    except ImportError as problem:
        raise MissingExtra(PACKAGE, EXTRA) from problem
    try:
        ort.register_execution_provider_library(plugin.get_ep_name(), plugin.get_library_path())
    except Exception as problem:  # ONNX Runtime's own errors have no common base
        said = (str(problem).splitlines() or [type(problem).__name__])[0][:300]
        raise ProviderError(
            f"{PLUGIN} does not load ({said}); it needs an NVIDIA driver: run `safevlm doctor`"
        ) from problem
