"""Deserialising an engine: native code from here on, so its bytes must have been authenticated before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from safevlm_runtime.backends.trt.flavor import Flavor, listener, reason
from safevlm_sdk.errors import EngineError, EngineUnreadable
from safevlm_sdk.manifest import Engine, Graph


class LoadedEngine:
    """A deserialised engine with what it needs to stay alive."""

    def __init__(self, engine: Any, runtime: Any, logger: Any, entry: Engine) -> None:
        self.entry = entry
        self._engine, self._runtime, self._logger = engine, runtime, logger

    def types(self, graph: Graph, trt: Any) -> dict[str, np.dtype[Any]]:
        """Name of every input and output to its type.

        Raises:
            EngineUnreadable: They are not those that the manifest states of the graph.
        """
        stated = {spec.name: (True, spec.dtype) for spec in graph.inputs}
        stated |= {spec.name: (False, spec.dtype) for spec in graph.outputs}
        found = {}
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            is_input = self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            found[name] = (is_input, self._engine.get_tensor_dtype(name).name)
        names = {"FLOAT": "float32", "HALF": "float16", "BOOL": "bool", "UINT8": "uint8", "INT64": "int64"}
        plain = {name: (is_input, names.get(dtype, dtype)) for name, (is_input, dtype) in found.items()}
        if plain != stated:
            raise EngineUnreadable(
                f"engine {self.entry.id}: its inputs and outputs are {_listed(plain)}, but {_listed(stated)} are "
                "stated; export the bundle again"
            )
        return {name: np.dtype(dtype) for name, (_, dtype) in stated.items()}

    def context(self, flavor: Flavor) -> tuple[Any, bool]:
        """A new execution context, and whether CUDA graphs are left to the caller.

        Raises:
            EngineError: There is none, for want of memory as a rule.
        """
        records = not hasattr(flavor.trt, "CudaGraphStrategy")
        if records:
            context = self._engine.create_execution_context()
        else:  # TensorRT-RTX makes kernels for the shapes that come, and records them itself
            config = self._engine.create_runtime_config()
            config.cuda_graph_strategy = flavor.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            context = self._engine.create_execution_context(config)
        if context is None:
            raise EngineError(f"engine {self.entry.id}: cannot be made ready: {reason(self._logger)}")
        return context, records


def deserialise(flavor: Flavor, entry: Engine, data: bytes) -> LoadedEngine:
    """Loads an engine's bytes.

    Args:
        flavor: What it was built with.
        entry: The manifest's or the cache's entry.
        data: From a signed or pinned bundle, or from this host's own cache.

    Raises:
        EngineUnreadable: The library refuses them.
    """
    logger = listener(flavor)
    runtime = flavor.trt.Runtime(logger)
    runtime.engine_host_code_allowed = False
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise EngineUnreadable(
            f"engine {entry.id}: {flavor.title} {flavor.version} refuses it: {reason(logger)}; get the bundle again, "
            "or export it without engines, so that one is built here"
        )
    return LoadedEngine(engine, runtime, logger, entry)


def _listed(tensors: Mapping[str, tuple[bool, str]]) -> str:
    return ", ".join(
        f"{'input' if is_input else 'output'} {name} {dtype}" for name, (is_input, dtype) in sorted(tensors.items())
    )
