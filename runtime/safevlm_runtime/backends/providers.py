"""What a graph may run on, by the names that a caller gives: ONNX Runtime's providers, TensorRT, OpenVINO."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

from safevlm_runtime.backends.backend import Backend
from safevlm_runtime.backends.openvino_backend import DEVICES, OpenvinoBackend, provider_title
from safevlm_runtime.backends.ort_backend import PROVIDERS, SessionOptions, resolve_provider
from safevlm_runtime.backends.trt.flavor import TITLES, FlavorName
from safevlm_runtime.backends.trt.opening import open_engine
from safevlm_runtime.bundle.reader import Bundle
from safevlm_sdk.errors import OptionError, ProviderError, SafeVLMError
from safevlm_sdk.manifest import Graph

T = TypeVar("T")
Opener = Callable[[bytes, Graph, SessionOptions], Backend]

ENGINES: dict[str, FlavorName] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
WISHES = (*PROVIDERS, *ENGINES, *DEVICES)


def in_order(provider: str | Sequence[str], attempt: Callable[[str], T]) -> T:
    """Makes something with the first provider that works; a single one must.

    Args:
        provider: One name, or the caller's own order of them.
        attempt: Makes it with one of them.

    Returns:
        What the first attempt that succeeds gives. A RuntimeWarning tells each that failed before.

    Raises:
        OptionError: No provider was named.
        ProviderError: One is unknown; nothing was tried.
        SafeVLMError: Of the last attempt.
    """
    wishes = [provider] if isinstance(provider, str) else list(provider)
    if not wishes:
        raise OptionError("no provider is named; give one, or several in the order in which they are to be tried")
    for wish in wishes:
        _require_known(wish)
    for wish in wishes[:-1]:
        try:
            return attempt(wish)
        except SafeVLMError as problem:
            warnings.warn(f"provider {wish} is not used: {problem.code}: {problem}", RuntimeWarning, stacklevel=3)
    return attempt(wishes[-1])


def provider_name(wish: str) -> str:
    """The full name of what is wished for, which verdicts give.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
        ProviderError: It is unknown, or ONNX Runtime has it not.
    """
    _require_known(wish)
    if wish in DEVICES:
        return provider_title(wish)
    flavor = ENGINES.get(wish)
    return resolve_provider(wish) if flavor is None else TITLES[flavor]


def open_graph(bundle: Bundle, graph: Graph, options: SessionOptions, opener: Opener) -> Backend:
    """A backend for a graph on the provider of `options`: an engine, an IR, or what `opener` makes of ONNX."""
    if options.provider in DEVICES:
        return OpenvinoBackend.load(bundle.graphs[graph.id], bundle.weights[graph.id], graph, options)
    flavor = ENGINES.get(options.provider)
    if flavor is not None:
        return open_engine(bundle, graph, flavor, options.engine_seconds)
    return opener(bundle.graphs[graph.id], graph, options)


def _require_known(wish: str) -> None:
    if wish not in WISHES and wish not in PROVIDERS.values():
        raise ProviderError(f"provider {wish!r} is unknown; choose from {', '.join(WISHES)}")
