"""How fast this machine multiplies matrices and moves bytes, by the same library that runs the gate."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np

from safevlm_runtime.backends.ort_backend import resolve_provider
from safevlm_runtime.bench.one_node import BFLOAT16, FLOAT, FLOAT16, INT8, INT32, UINT8, Constant, one_node
from safevlm_runtime.bench.result import Ceiling
from safevlm_sdk.errors import SafeVLMError
from safevlm_sdk.no_telemetry import import_onnxruntime

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
KINDS = ("fp32", "fp16", "bf16", "int8")
SIDES = {CPU: 768, CUDA: 4096}  # of the square matrices: large enough to reach the rate, small enough for each round
COPIED = {CPU: 2**26, CUDA: 2**28}  # bytes; more than a cache holds

_DEVICES = {CPU: "cpu", CUDA: "cuda"}
_ERRORS_ONLY = 3


class CeilingRun:
    """Sessions that are ready, and the rates that were measured so far.

    Args:
        provider: CPU or CUDA.
        threads: Within one operator; None leaves it to ONNX Runtime.
        sides: Side of the matrices, if not the usual.
        copied: Bytes to be copied, if not the usual.
    """

    def __init__(
        self, provider: str, threads: int | None, *, sides: int | None = None, copied: int | None = None
    ) -> None:
        self._provider, self._threads = provider, threads
        self._side = SIDES[provider] if sides is None else sides
        self._copied = COPIED[provider] if copied is None else copied
        self._gemms = {kind: _bound(gemm_model(kind, self._side), provider, threads) for kind in KINDS}
        self._rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self._copies: list[float] = []
        self._memory = (
            _HostCopy(self._copied) if provider == CPU else _bound(_copy_model(self._copied), provider, None)
        )

    def warm_up(self) -> None:
        """Runs everything once without keeping a figure."""
        for run in (*self._gemms.values(), self._memory):
            if run is not None:
                run()

    def measure(self) -> None:
        """Takes one sample of each."""
        for kind, run in self._gemms.items():
            if run is not None:
                self._rates[kind].append(round(2.0 * self._side**3 / _seconds(run) / 1e9, 4))
        if self._memory is not None:
            self._copies.append(round(2.0 * self._copied / _seconds(self._memory) / 1e9, 4))

    def result(self) -> Ceiling:
        """All samples."""
        gemm = {kind: tuple(self._rates[kind]) if run is not None else None for kind, run in self._gemms.items()}
        return Ceiling(threads=self._threads, provider=self._provider, gemm=gemm, copy=tuple(self._copies))


def ceiling_provider(provider: str) -> str | None:
    """What measures the speed of the device that a provider runs on; None where nothing here can.

    Args:
        provider: The full name, as in a verdict.
    """
    if provider in (CPU, "OpenVINO CPU"):
        return CPU
    if provider.startswith("OpenVINO"):
        return None
    try:
        return resolve_provider("cuda")
    except SafeVLMError:
        return None


def gemm_model(kind: str, side: int) -> bytes:
    """A product of two square matrices: float32 in float32 and so on, or uint8 by int8 in int32 for "int8"."""
    rng = np.random.default_rng(0)
    shape = (side, side)
    if kind == "int8":
        left = rng.integers(0, 256, shape, dtype=np.uint8).tobytes()
        right = rng.integers(-64, 64, shape, dtype=np.int8).tobytes()  # kernels without VNNI add pairs in 16 bits
        operands = [Constant(kind=UINT8, shape=shape, data=left), Constant(kind=INT8, shape=shape, data=right)]
        return one_node("MatMulInteger", operands, kind=INT32, shape=shape)
    element = {"fp32": FLOAT, "fp16": FLOAT16, "bf16": BFLOAT16}[kind]
    values = rng.standard_normal((2, *shape), dtype=np.float32)
    operands = [Constant(kind=element, shape=shape, data=_floats(matrix, kind)) for matrix in values]
    return one_node("MatMul", operands, kind=element, shape=shape)


def _floats(values: Any, kind: str) -> bytes:
    if kind == "bf16":
        return bytes((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())  # the upper half of a float32
    return bytes(values.astype(np.float32 if kind == "fp32" else np.float16).tobytes())


def _copy_model(size: int) -> bytes:
    data = np.ones(size // 4, dtype=np.float32).tobytes()
    shape = (size // 4,)
    return one_node("Neg", [Constant(kind=FLOAT, shape=shape, data=data)], kind=FLOAT, shape=shape)


class _HostCopy:
    """A copy in main memory, by one thread."""

    def __init__(self, size: int) -> None:
        self._source = np.ones(size, dtype=np.uint8)
        self._target = np.zeros(size, dtype=np.uint8)

    def __call__(self) -> None:
        np.copyto(self._target, self._source)


class _BoundRun:
    """A session whose output stays on its device."""

    def __init__(self, session: Any, device: str) -> None:
        self._session, self._binding = session, session.io_binding()
        self._binding.bind_output("y", device)

    def __call__(self) -> None:
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()


def _bound(model: bytes, provider: str, threads: int | None) -> _BoundRun | None:
    """None where ONNX Runtime has no kernel for it there."""
    onnxruntime = import_onnxruntime()

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _ERRORS_ONLY + 1
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # or it is folded away
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as the gate's sessions
    if threads is not None:
        settings.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(model, settings, providers=[provider], enable_fallback=0)
        run = _BoundRun(session, _DEVICES[provider])
        run()
    except Exception:  # ONNX Runtime's own kinds of error differ between versions; any of them means no kernel
        return None
    return run


def _seconds(run: Any) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start
