"""What `safevlm verify` and `safevlm inspect` say of a bundle."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import msgspec

from safevlm_runtime.contract import check_graph
from safevlm_runtime.gate import Opener, open_backend
from safevlm_runtime.ort_backend import OrtBackend, SessionOptions, resolve_provider
from safevlm_runtime.reader import Bundle, read_bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphReport:
    """One graph: its largest differences from the golden outputs, or None if this runtime does not run it."""

    id: str
    backend: str
    precision: str
    max_error: dict[str, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """A bundle that passed every check.

    Attributes:
        name: The bundle's name.
        digest: Its digest.
        pinned: The digest was compared with a given one; otherwise only corruption was ruled out.
        signed: There is a SIGNATURE file, which was not verified.
        proof: "decisions" or "numeric".
        provider: What ran the graphs.
        golden_images: How many golden images there are.
        files: How many files were hashed, the manifest included.
        size: Their bytes.
        graphs: Each graph's result.
    """

    name: str
    digest: str
    pinned: bool
    signed: bool
    proof: str
    provider: str
    golden_images: int
    files: int
    size: int
    graphs: tuple[GraphReport, ...]

    def render(self) -> str:
        """The report as lines of text."""
        pin = "equal to the pinned digest" if self.pinned else "not pinned: this rules out damage, not an attacker"
        lines = [
            f"{self.name}: every check passed",
            f"digest    {self.digest} ({pin})",
            f"files     {self.files}, {self.size} bytes, each as the manifest says",
            f"signature {'there, not verified' if self.signed else 'none'}",
            f"proof     {self.proof}",
        ]
        return "\n".join([*lines, *(self._render_graph(graph) for graph in self.graphs)])

    def _render_graph(self, graph: GraphReport) -> str:
        if graph.max_error is None:
            return f"graph     {graph.id}: hashed; {graph.backend} is not run here"
        errors = ", ".join(f"{name} {error:.2g}" for name, error in sorted(graph.max_error.items()))
        return f"graph     {graph.id}: reproduces its golden decisions on {self.provider}; largest error: {errors}"


def verify_bundle(path: str | os.PathLike[str], digest: str | None = None) -> VerifyReport:
    """Reads a bundle, checks every hash and graph, and runs the golden self-test of each graph on the CPU.

    Raises:
        BundleError: The bundle is refused; each reason has its own class.
        ProviderError, MissingExtra: ONNX Runtime cannot be used.
    """
    bundle = read_bundle(path, digest=digest)
    options = SessionOptions(engine_seconds=60.0)
    manifest = bundle.manifest
    return VerifyReport(
        name=manifest.name,
        digest=manifest.digest,
        pinned=bundle.pinned,
        signed=bundle.signed,
        proof=manifest.proof.kind,
        provider=resolve_provider(options.provider),
        golden_images=len(bundle.golden.images),
        files=len(manifest.files) + 1,
        size=bundle.size,
        graphs=tuple(_graph_report(bundle, index, options, OrtBackend.load) for index in range(len(manifest.graphs))),
    )


def describe(bundle: Bundle) -> dict[str, Any]:
    """The bundle in plain values, for people and for JSON: the manifest, the policy and the sizes of the graphs."""
    return {
        "path": str(bundle.path),
        "size": bundle.size,
        "signed": bundle.signed,
        "manifest": msgspec.to_builtins(bundle.manifest),
        "policy": msgspec.to_builtins(bundle.policy),
        "policy_digest": bundle.policy.digest,
        "uncovered": list(bundle.policy.uncovered_by(bundle.manifest.rule.covered)),
        "graph_bytes": {name: len(data) for name, data in bundle.graphs.items()},
        "golden_images": len(bundle.golden.images),
    }


def _graph_report(bundle: Bundle, index: int, options: SessionOptions, opener: Opener) -> GraphReport:
    graph = bundle.manifest.graphs[index]
    errors = None
    if graph.backend == "onnxruntime":
        check_graph(bundle.manifest, graph)
        backend, errors = open_backend(bundle, graph, options, opener)
        backend.close()
    return GraphReport(id=graph.id, backend=graph.backend, precision=graph.precision, max_error=errors)
