"""ONNX Runtime as a backend; it is imported here and nowhere else, when the first session is built."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

from numpy.typing import NDArray

from safevlm_runtime.backends.backend import Tensors, check_outputs
from safevlm_runtime.backends.ort_plugin import PLUGIN, plugin_devices
from safevlm_runtime.backends.watchdog import Watchdog
from safevlm_sdk.errors import (
    BundleGraph,
    EngineError,
    EngineTimeout,
    MissingExtra,
    OptionError,
    ProviderError,
    SafeVLMError,
)
from safevlm_sdk.manifest import Graph, TensorSpec
from safevlm_sdk.no_telemetry import import_onnxruntime

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "ort-tensorrt": "TensorrtExecutionProvider",
    "ort-tensorrt-rtx": PLUGIN,
}
EXTRAS = {"CPUExecutionProvider": "cpu", "CUDAExecutionProvider": "gpu", "TensorrtExecutionProvider": "gpu"}

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    "tensor(uint8)": "uint8",
    "tensor(int64)": "int64",
}
_ERRORS_ONLY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How sessions are built.

    Attributes:
        provider: "cpu", "cuda" or another of `providers.WISHES`, or the full name of one of ONNX Runtime's.
        threads: Threads within one operator; None leaves it to ONNX Runtime, or OpenVINO.
        engine_seconds: Wall time of one run, per image of its batch.
    """

    provider: str = "cpu"
    threads: int | None = None
    engine_seconds: float = 2.0

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise OptionError(f"threads is {self.threads}; give at least 1, or None")
        if not 0 < self.engine_seconds < float("inf"):
            raise OptionError(f"engine_seconds is {self.engine_seconds}; give a finite number above 0")


class OrtBackend:
    """One graph in one session of ONNX Runtime."""

    def __init__(self, session: Any, graph: Graph, provider: str, options: SessionOptions) -> None:
        self.provider = provider
        self._session = session
        self._graph = graph
        self._options = options
        self._watchdog = Watchdog(options.engine_seconds)
        self._run_options = _ort().RunOptions

    @classmethod
    def load(cls, data: bytes, graph: Graph, options: SessionOptions) -> OrtBackend:
        """Builds a session from bytes.

        Raises:
            MissingExtra: ONNX Runtime is not installed.
            ProviderError: The provider is unknown, not installed, or not the one in use.
            BundleGraph: ONNX Runtime refuses the graph, or its inputs and outputs are not the stated ones.
        """
        provider = resolve_provider(options.provider)
        session = _session(data, graph, provider, options)
        in_use = session.get_providers()
        if not in_use or in_use[0] != provider:
            raise ProviderError(
                f"{provider} was asked for, but {', '.join(in_use) or 'nothing'} is in use; check the driver and "
                f"its libraries, or ask for another provider"
            )
        _check_specs(graph.id, "input", graph.inputs, session.get_inputs(), exact=True)
        _check_specs(graph.id, "output", graph.outputs, session.get_outputs(), exact=False)
        return cls(session, graph, provider, options)

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """See `Backend.run`."""
        session = self._session
        if session is None:
            raise EngineError("the runtime is closed; load it again")
        options = self._run_options()
        options.log_severity_level = _ERRORS_ONLY
        images = max((len(tensor) for tensor in inputs.values()), default=1)
        with self._watchdog.watch(options, images) as ticket:
            try:
                values = session.run(list(outputs), dict(inputs), options)
            except Exception as problem:
                if not ticket.expired:
                    raise EngineError(f"graph {self._graph.id} failed: {_first_line(problem)}") from problem
        if ticket.expired:
            raise EngineTimeout(
                f"graph {self._graph.id} was stopped after {self._options.engine_seconds * images:g} s; "
                "give it more threads or raise engine_seconds"
            )
        found = dict(zip(outputs, values, strict=True))
        check_outputs(self._graph, inputs, found)
        return found

    def close(self) -> None:
        """See `Backend.close`."""
        self._session = None
        self._watchdog.close()


def resolve_provider(wish: str) -> str:
    """The full name of an installed provider.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
        ProviderError: The provider is unknown or not installed.
    """
    provider = PROVIDERS.get(wish, wish)
    available = [str(name) for name in _ort().get_available_providers()]
    if provider == PLUGIN:
        plugin_devices(_ort())
        return provider
    if provider not in EXTRAS:
        raise ProviderError(f"provider {wish!r} is unknown; choose from {', '.join(PROVIDERS)}")
    if provider not in available:
        raise ProviderError(
            f"{provider} is not available here, only {', '.join(available)} is; for it, run: "
            f"pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'safevlm-sdk[{EXTRAS[provider]}]'"
        )
    return provider


@cache
def _ort() -> Any:
    _check_packages()
    try:
        return import_onnxruntime()
    except ImportError as problem:
        raise MissingExtra("onnxruntime", "cpu") from problem
    except Exception as problem:  # a broken installation fails in any way it likes
        raise ProviderError(
            f"onnxruntime is installed but does not load ({type(problem).__name__}); run: "
            "pip install --force-reinstall onnxruntime"
        ) from problem


def _check_packages() -> None:
    if all(_installed(name) for name in ("onnxruntime", "onnxruntime-gpu")):
        raise ProviderError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; run: "
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'safevlm-sdk[gpu]' (or [cpu])"
        )


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _session(data: bytes, graph: Graph, provider: str, options: SessionOptions) -> Any:
    ort = _ort()
    settings = ort.SessionOptions()
    settings.log_severity_level = _ERRORS_ONLY
    settings.inter_op_num_threads = 1
    if options.threads is not None:
        settings.intra_op_num_threads = options.threads
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if provider == PLUGIN:
                settings.add_provider_for_devices(plugin_devices(ort), {})
                return ort.InferenceSession(data, settings, enable_fallback=0)
            # Its own fallback would print, and give a session on another provider.
            return ort.InferenceSession(data, settings, providers=[provider], enable_fallback=0)
    except SafeVLMError:
        raise
    except Exception as problem:
        raise BundleGraph(f"graph {graph.id}: ONNX Runtime refuses it: {_first_line(problem)}") from problem


def _check_specs(graph: str, kind: str, stated: Sequence[TensorSpec], found: Sequence[Any], *, exact: bool) -> None:
    actual = {node.name: node for node in found}
    names = [spec.name for spec in stated]
    if set(names) != set(actual) if exact else not set(names) <= set(actual):
        raise BundleGraph(f"graph {graph}: its {kind}s are {sorted(actual)}, but {sorted(names)} are stated")
    for spec in stated:
        node = actual[spec.name]
        if _DTYPES.get(node.type) != spec.dtype or not _shape_fits(spec.shape, node.shape):
            raise BundleGraph(
                f"graph {graph}: {kind} {spec.name} is {node.type} {node.shape}, "
                f"but {spec.dtype} {list(spec.shape)} is stated"
            )


def _shape_fits(stated: tuple[int | str, ...], found: Sequence[int | str | None]) -> bool:
    """A size that the graph leaves open may be stated, but never the other way round."""
    return len(stated) == len(found) and all(
        not isinstance(actual, int) or actual == size for size, actual in zip(stated, found, strict=True)
    )


def _first_line(problem: Exception) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0][:200]
