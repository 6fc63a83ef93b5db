"""What is to be measured: a bundle, and how it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safevlm_runtime.backends.providers import provider_name
from safevlm_runtime.bench.result import Subject
from safevlm_runtime.bundle.contract import choose_graph
from safevlm_runtime.bundle.reader import Bundle
from safevlm_sdk.errors import BenchmarkError
from safevlm_sdk.manifest import GATE, Graph

MAX_IMAGE_BYTES = 2**27  # a 12-megapixel PNG of a photograph is larger than what a gate takes by default
ENGINE_SECONDS = 60.0  # a slow run is a figure here, and no failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The options of `Runtime.load` that a benchmark leaves to its user.

    Attributes:
        bundle: Its folder.
        provider: As for `Runtime.load`, as are the others.
    """

    bundle: Path
    provider: str = "cpu"
    precision: str | None = None
    digest: str | None = None
    public_key: Path | None = None

    def options(self, threads: int | None) -> dict[str, Any]:
        """Keyword arguments of `Runtime.load`, as plain values."""
        return {
            "provider": self.provider,
            "precision": self.precision,
            "digest": self.digest,
            "public_key": None if self.public_key is None else str(self.public_key.absolute()),
            "threads": threads,
            "allow_uncalibrated": True,  # nothing is decided by what is judged here
            "engine_seconds": ENGINE_SECONDS,
        }


def chosen_graph(bundle: Bundle, setup: Setup) -> Graph:
    """The graph that judges images.

    Raises:
        BundleError, ProviderError, MissingExtra: As `Runtime.load` says.
        BenchmarkError: The bundle has none for the provider.
    """
    graph = choose_graph(bundle.manifest, GATE, provider_name(setup.provider), setup.precision)
    if graph is None:
        raise BenchmarkError(
            f"bundle {bundle.manifest.name!r} has no gate graph for {setup.provider}; export it again"
        )
    return graph


def subject_of(bundle: Bundle, graph: Graph, provider: str) -> Subject:
    """The subject as the result names it; `provider` is the one that a verdict gave."""
    return Subject(
        bundle=bundle.manifest.name,
        digest=bundle.manifest.digest,
        provider=provider,
        graph=graph.id,
        precision=graph.precision,
        file_bytes=len(bundle.graphs[graph.id]) + len(bundle.weights.get(graph.id, b"")),
    )
