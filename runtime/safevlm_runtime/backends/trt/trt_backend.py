"""TensorRT as a backend: one engine, and as many workers as threads run it at a time."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safevlm_runtime.backends.backend import Tensors, check_outputs
from safevlm_runtime.backends.trt.device import Device
from safevlm_runtime.backends.trt.engine import LoadedEngine
from safevlm_runtime.backends.trt.flavor import Flavor
from safevlm_runtime.backends.trt.worker import Worker
from safevlm_sdk.errors import EngineError, EngineTimeout
from safevlm_sdk.manifest import Graph

WORKERS = 2
WARM_UP_SECONDS = 600.0


class TrtBackend:
    """One graph as an engine on one GPU."""

    def __init__(self, engine: LoadedEngine, graph: Graph, flavor: Flavor, device: Device, seconds: float) -> None:
        """Makes the workers, which lets the library make its kernels; see `Backend`.

        Args:
            engine: Built of the graph.
            graph: What the manifest states of it.
            flavor: What runs it.
            device: Where.
            seconds: Wall time of one run, per image of its batch.
        """
        self.provider = flavor.title
        self._engine, self._graph, self._flavor, self._device = engine, graph, flavor, device
        self._seconds = seconds
        self._types = engine.types(graph, flavor.trt)
        self._most = min(shapes[2][0] for shapes in engine.entry.profile.values())
        self._closed = False
        # None is the place of a worker that failed; the next run puts a new one there.
        self._free: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        try:
            for _ in range(WORKERS):
                self._free.put(self._worker(WARM_UP_SECONDS))
        except BaseException:
            self.close()
            raise

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """See `Backend.run`; a batch that is larger than the engine takes is run in parts."""
        rows = self._check(inputs)
        with self._lease(rows) as worker:
            parts = [
                worker.run(
                    {name: values[at : at + self._most] for name, values in inputs.items()},
                    outputs,
                    self._seconds * min(self._most, rows - at),
                )
                for at in range(0, rows, self._most)
            ]
        found = parts[0] if len(parts) == 1 else {name: np.concatenate([p[name] for p in parts]) for name in outputs}
        check_outputs(self._graph, inputs, found)
        return found

    def close(self) -> None:
        """See `Backend.close`."""
        self._closed = True
        while True:
            try:
                worker = self._free.get_nowait()
            except queue.Empty:
                return
            if worker is not None:
                worker.close()

    def _check(self, inputs: Tensors) -> int:
        rows = {len(values) for values in inputs.values()}
        for name, values in inputs.items():
            if values.dtype != self._types.get(name):
                raise EngineError(f"graph {self._graph.id}: {name} is {values.dtype}, not {self._types.get(name)}")
        if len(rows) != 1 or 0 in rows or set(inputs) != {spec.name for spec in self._graph.inputs}:
            raise EngineError(f"graph {self._graph.id}: takes one or more rows of each input, not {sorted(rows)}")
        return rows.pop()

    @contextmanager
    def _lease(self, rows: int) -> Iterator[Worker]:
        if self._closed:
            raise EngineError("the runtime is closed; load it again")
        try:
            found = self._free.get(timeout=self._seconds * rows)
        except queue.Empty as problem:
            raise EngineTimeout(
                f"graph {self._graph.id}: no worker was free within {self._seconds * rows:g} s; the GPU has too much "
                "to do or does not answer: look at nvidia-smi, or raise engine_seconds"
            ) from problem
        worker = None
        try:
            worker = self._worker(self._seconds) if found is None else found
            yield worker
        except EngineTimeout:
            raise  # the GPU still writes to this worker's memory: it is given up, and its place with it
        except BaseException:
            if worker is not None:
                with suppress(EngineError):
                    worker.close()
            self._give_back(None)
            raise
        else:
            self._give_back(worker)

    def _give_back(self, worker: Worker | None) -> None:
        self._free.put(worker)
        if self._closed:
            self.close()

    def _worker(self, warm_up_seconds: float) -> Worker:
        self._device.use()
        context, records = self._engine.context(self._flavor)
        worker = Worker(context, self._engine.entry, self._types, self._device, records=records)
        try:
            worker.warm_up(warm_up_seconds)
        except EngineTimeout:
            raise
        except BaseException:
            with suppress(EngineError):
                worker.close()
            raise
        return worker
