"""One execution context with its stream and its buffers: what one thread at a time runs an engine with."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from safevlm_runtime.backends.backend import Tensors
from safevlm_runtime.backends.trt.device import Device, Pinned
from safevlm_sdk.errors import EngineError, EngineTimeout
from safevlm_sdk.manifest import Engine

MAX_CUDA_GRAPHS = 16

# What stands in the place of a recorded graph before there is one, and where there can be none.
_NEW, _SEEN, _NEVER = "new", "seen", "never"
_Shapes: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]

_NAP = 50e-6
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: the stream does not wait for the default one


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Buffer:
    """One tensor's memory, for the largest shape of the profile."""

    dtype: np.dtype[Any]
    host: Pinned
    device: Any


class Worker:
    """Runs an engine for one thread at a time.

    A CUDA graph is recorded when shapes come a second time, and replayed from then on, unless the library does that
    by itself.
    """

    def __init__(
        self, context: Any, entry: Engine, types: Mapping[str, np.dtype[Any]], device: Device, *, records: bool
    ) -> None:
        """Makes buffers for the largest shapes.

        Args:
            context: An execution context of the engine.
            entry: Its profile is in force.
            types: Name of every input and output to its type.
            device: In use by the calling thread.
            records: Record CUDA graphs here; False if the library does.
        """
        self._device, self._context, self._records = device, context, records
        self._graphs: dict[_Shapes, Any] = {}
        self._buffers: dict[str, _Buffer] = {}
        self._stream = device.call("cuStreamCreate", _NON_BLOCKING)
        self._usual = {name: np.zeros(shapes[1], types[name]) for name, shapes in entry.profile.items()}
        try:
            self._reserve({name: shapes[2] for name, shapes in entry.profile.items()}, types)
        except BaseException:
            with suppress(EngineError):
                self.close()
            raise

    def warm_up(self, seconds: float) -> None:
        """Runs once with the usual shapes: the library loads or makes its kernels, which takes longer than any run.

        Raises:
            EngineTimeout, EngineError: As `run`.
        """
        self.run(self._usual, (), seconds)

    def run(self, inputs: Tensors, outputs: Sequence[str], seconds: float) -> dict[str, NDArray[Any]]:
        """Runs once; shapes within the profile.

        Raises:
            EngineTimeout: The GPU still works; this worker must not be used again.
            EngineError: It failed.
        """
        self._device.use()
        self._set_shapes({name: values.shape for name, values in inputs.items()})
        for name, values in inputs.items():
            buffer = self._buffers[name]
            np.copyto(buffer.host.array(values.shape, buffer.dtype), values, casting="no")
            self._device.call("cuMemcpyHtoDAsync", buffer.device, buffer.host.address, values.nbytes, self._stream)
        self._launch(tuple((name, values.shape) for name, values in inputs.items()))
        found = {}
        for name in outputs:
            buffer = self._buffers[name]
            found[name] = buffer.host.array(self._shape(name), buffer.dtype)
            size = found[name].nbytes
            self._device.call("cuMemcpyDtoHAsync", buffer.host.address, buffer.device, size, self._stream)
        self._wait(seconds)
        return {name: values.copy() for name, values in found.items()}

    def close(self) -> None:
        """Gives everything back, once the GPU is done with it."""
        self._device.use()
        self._device.call("cuStreamSynchronize", self._stream)
        for graph in self._graphs.values():
            if graph not in (_SEEN, _NEVER):
                self._device.call("cuGraphExecDestroy", graph)
        for buffer in self._buffers.values():
            self._device.call("cuMemFree", buffer.device)
            buffer.host.free()
        self._buffers.clear()
        self._context = None
        self._device.call("cuStreamDestroy", self._stream)

    def _reserve(self, largest: Mapping[str, tuple[int, ...]], types: Mapping[str, np.dtype[Any]]) -> None:
        self._set_shapes(largest)
        for name, dtype in types.items():
            shape = largest.get(name) or self._shape(name)
            size = max(1, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
            host = Pinned(self._device, size)
            try:
                memory = self._device.call("cuMemAlloc", size)
            except EngineError:
                host.free()
                raise
            self._buffers[name] = _Buffer(dtype=dtype, host=host, device=memory)
            if not self._context.set_tensor_address(name, int(memory)):
                raise EngineError(f"the engine has no tensor {name}; export the bundle again")

    def _set_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise EngineError(f"the engine takes no {name} of shape {list(shape)}; export it with other profiles")

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = tuple(int(size) for size in self._context.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise EngineError(f"the engine does not know the shape of {name} before it runs; export the bundle again")
        return shape

    def _launch(self, shapes: _Shapes) -> None:
        graph = self._graphs.get(shapes, _NEW)
        if graph is _SEEN:
            graph = self._graphs[shapes] = self._recorded()
        if graph in (_NEW, _NEVER):
            self._enqueue()
        else:
            self._device.call("cuGraphLaunch", graph, self._stream)
        if graph is _NEW and self._records and len(self._graphs) < MAX_CUDA_GRAPHS:
            self._graphs[shapes] = _SEEN  # this first run has prepared what must not happen while recording

    def _recorded(self) -> Any:
        mode = self._device.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._device.call("cuStreamBeginCapture", self._stream, mode)
        try:
            try:
                self._enqueue()
            finally:
                recorded = self._device.call("cuStreamEndCapture", self._stream)
            graph = self._device.call("cuGraphInstantiate", recorded, 0)
            self._device.call("cuGraphDestroy", recorded)
        except EngineError:  # an engine may hold what cannot be recorded; it runs all the same, a little slower
            return _NEVER
        return graph

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise EngineError("the engine could not be started on the GPU; look at nvidia-smi, and load it again")

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._device.busy(self._stream):
            if time.monotonic() > deadline:
                raise EngineTimeout(f"the GPU was not done after {seconds:g} s; raise engine_seconds")
            time.sleep(_NAP)
