"""OpenVINO as a backend; it is imported here and nowhere else, when the first graph is compiled."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safevlm_runtime.backends.backend import Tensors, check_outputs
from safevlm_runtime.backends.ort_backend import SessionOptions
from safevlm_sdk.errors import BundleGraph, DeviceMissing, EngineError, EngineTimeout, MissingExtra, ProviderError
from safevlm_sdk.manifest import Graph, TensorSpec
from safevlm_sdk.no_telemetry import import_openvino

EXTRA = "openvino"
DEVICES = {"openvino": "CPU", "openvino:GPU": "GPU", "openvino:NPU": "NPU"}

_DTYPES = {"f32": "float32", "f16": "float16", "boolean": "bool", "u8": "uint8", "i64": "int64"}
_LONGEST_MS = 2**31 - 1


class OpenvinoBackend:
    """One graph, compiled for one device; each run that is under way has an inference request of its own."""

    def __init__(self, openvino: Any, compiled: Any, graph: Graph, options: SessionOptions) -> None:
        self.provider = provider_title(options.provider)
        self._tensor = openvino.Tensor
        self._compiled = compiled
        self._graph = graph
        self._options = options
        self._idle: deque[Any] = deque()

    @classmethod
    def load(cls, data: bytes, weights: bytes, graph: Graph, options: SessionOptions) -> OpenvinoBackend:
        """Compiles an IR from bytes.

        Args:
            data: Its XML, which `ir_guard` has let pass.
            weights: Its constants.
            graph: Its entry in the manifest.
            options: `provider` is one of `DEVICES`.

        Raises:
            MissingExtra: OpenVINO is not installed.
            ProviderError: It does not load, or compiled for another device; DeviceMissing where there is no such.
            BundleGraph: OpenVINO refuses the graph, or its inputs and outputs are not the stated ones.
        """
        openvino, device = load_openvino(), DEVICES[options.provider]
        core = openvino.Core()
        present = [str(name) for name in core.available_devices]
        if not any(name.split(".")[0] == device for name in present):
            raise DeviceMissing(
                f"OpenVINO finds no {device} here, only {', '.join(present) or 'nothing'}; install that device's "
                "driver, or ask for another provider"
            )
        try:
            model = core.read_model(data, weights)
            _check_specs(graph.id, "input", graph.inputs, model.inputs, exact=True)
            _check_specs(graph.id, "output", graph.outputs, model.outputs, exact=False)
            compiled = core.compile_model(model, device, _settings(device, options))
        except BundleGraph:
            raise
        except Exception as problem:  # OpenVINO raises RuntimeError for nearly everything
            raise BundleGraph(f"graph {graph.id}: OpenVINO refuses it: {_last_line(problem)}") from problem
        in_use = [str(name) for name in compiled.get_property("EXECUTION_DEVICES")]
        if [name.split(".")[0] for name in in_use] != [device]:
            raise ProviderError(
                f"{device} was asked for, but OpenVINO compiled graph {graph.id} for "
                f"{', '.join(in_use) or 'nothing'}; ask for another provider"
            )
        return cls(openvino, compiled, graph, options)

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """See `Backend.run`."""
        compiled = self._compiled
        if compiled is None:
            raise EngineError("the runtime is closed; load it again")
        wanted = {spec.name for spec in self._graph.inputs}
        if set(inputs) != wanted:  # a request would take what is missing from its last run: another image
            raise EngineError(f"graph {self._graph.id}: takes {sorted(wanted)}, but was given {sorted(inputs)}")
        images = max((len(tensor) for tensor in inputs.values()), default=1)
        try:
            request = self._idle.pop()
        except IndexError:
            request = compiled.create_infer_request()
        found = self._infer(request, inputs, outputs, self._options.engine_seconds * images)
        check_outputs(self._graph, inputs, found)
        self._idle.append(request)
        return found

    def close(self) -> None:
        """See `Backend.close`."""
        self._compiled = None
        self._idle.clear()

    def _infer(
        self, request: Any, inputs: Tensors, outputs: Sequence[str], seconds: float
    ) -> dict[str, NDArray[Any]]:
        """One run; a request that fails or is stopped is not used again."""
        try:
            for name, values in inputs.items():
                request.set_tensor(name, self._tensor(np.ascontiguousarray(values)))
            request.start_async()
            if request.wait_for(min(max(1, round(seconds * 1000)), _LONGEST_MS)):
                return {name: np.array(request.get_tensor(name).data) for name in outputs}
            request.cancel()
        except Exception as problem:
            raise EngineError(f"graph {self._graph.id} failed: {_last_line(problem)}") from problem
        with suppress(Exception):  # it raises that it was cancelled
            request.wait()
        raise EngineTimeout(
            f"graph {self._graph.id} was stopped after {seconds:g} s; give it more threads or raise engine_seconds"
        )


def load_openvino() -> Any:
    """The module.

    Raises:
        MissingExtra: It is not installed.
        ProviderError: It is installed and does not load.
    """
    try:
        return import_openvino()
    except ModuleNotFoundError as problem:
        if problem.name != "openvino":
            raise _broken(problem) from problem
        raise MissingExtra("openvino", EXTRA) from problem
    except Exception as problem:  # a broken installation fails in any way it likes
        raise _broken(problem) from problem


def provider_title(wish: str) -> str:
    """The name of one of `DEVICES` in verdicts, as "OpenVINO CPU"."""
    return f"OpenVINO {DEVICES[wish]}"


def _broken(problem: Exception) -> ProviderError:
    return ProviderError(
        f"openvino is installed but does not load ({type(problem).__name__}); run: "
        "pip install --force-reinstall openvino"
    )


def _settings(device: str, options: SessionOptions) -> dict[str, Any]:
    """How to compile.

    Precision lies in the graph. Left alone, OpenVINO computes float32 layers in bf16 or fp16 where it can, which is
    not what was proven; only an NPU has nothing else. Threads are not pinned to cores: the process is not ours alone.
    """
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if device != "NPU":
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    if device == "CPU":
        settings["ENABLE_CPU_PINNING"] = False
        if options.threads is not None:
            settings["INFERENCE_NUM_THREADS"] = options.threads
    return settings


def _check_specs(graph: str, kind: str, stated: Sequence[TensorSpec], found: Sequence[Any], *, exact: bool) -> None:
    actual = {str(name): port for port in found for name in port.get_names()}
    names = [spec.name for spec in stated]
    fits = len(found) == len(names) and set(names) <= set(actual) if exact else set(names) <= set(actual)
    if not fits:
        raise BundleGraph(f"graph {graph}: its {kind}s are {sorted(actual)}, but {sorted(names)} are stated")
    for spec in stated:
        port = actual[spec.name]
        kind_of_number, shape = port.get_element_type().get_type_name(), port.get_partial_shape()
        if _DTYPES.get(kind_of_number) != spec.dtype or not _shape_fits(spec.shape, shape):
            raise BundleGraph(
                f"graph {graph}: {kind} {spec.name} is {kind_of_number} {shape}, "
                f"but {spec.dtype} {list(spec.shape)} is stated"
            )


def _shape_fits(stated: tuple[int | str, ...], found: Any) -> bool:
    """A size that the graph leaves open may be stated, but never the other way round."""
    if found.rank.is_dynamic or len(found) != len(stated):
        return False
    return all(actual.is_dynamic or actual.get_length() == size for size, actual in zip(stated, found, strict=True))


def _last_line(problem: Exception) -> str:
    """OpenVINO's messages end with what went wrong; before that they tell where in its source."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return (lines or [type(problem).__name__])[-1][:200]
