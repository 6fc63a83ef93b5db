"""What `safevlm verify` and `safevlm inspect` say of a bundle."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import msgspec

from safevlm_runtime.backends.ort_backend import OrtBackend, SessionOptions, resolve_provider
from safevlm_runtime.backends.providers import Opener, provider_name
from safevlm_runtime.backends.trt.flavor import TITLES
from safevlm_runtime.bundle.contract import TARGETS, check_graph
from safevlm_runtime.bundle.reader import Bundle, read_bundle
from safevlm_runtime.bundle.self_test import SMALLEST_BATCH, self_test
from safevlm_runtime.bundle.signature import Signer
from safevlm_runtime.judging.gate import open_backend
from safevlm_sdk.calibration.note import other_policy
from safevlm_sdk.manifest import Engine, Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphReport:
    """One graph: what ran it, and its largest differences from the golden outputs; None if nothing here runs it."""

    id: str
    made_for: str
    precision: str
    provider: str | None
    max_error: dict[str, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """A bundle that passed every check.

    Attributes:
        name: The bundle's name.
        digest: Its digest.
        pinned: The digest was compared with a given one; otherwise only corruption was ruled out.
        signed: There is a SIGNATURE file.
        signer: Who was found to have made it; None: not verified.
        proof: "decisions" or "numeric".
        provider: What ran the graphs.
        golden_images: How many golden images there are.
        files: How many files were hashed, the manifest included.
        size: Their bytes.
        graphs: Each graph's result.
        engines: What is said of each engine.
        warning: Said where the thresholds were calibrated under another policy than the bundle's.
    """

    name: str
    digest: str
    pinned: bool
    signed: bool
    signer: str | None
    proof: str
    provider: str
    golden_images: int
    files: int
    size: int
    graphs: tuple[GraphReport, ...]
    engines: tuple[str, ...]
    warning: str | None

    def render(self) -> str:
        """The report as lines of text."""
        lines = [
            f"{self.name}: every check passed",
            f"digest    {self.digest} ({self._pin()})",
            f"files     {self.files}, {self.size} bytes, each as the manifest says",
            f"signature {self._signature()}",
            f"proof     {self.proof}",
        ]
        lines += [self._render_graph(graph) for graph in self.graphs]
        lines += self.engines
        return "\n".join(lines if self.warning is None else [*lines, f"warning   {self.warning}"])

    def _pin(self) -> str:
        if self.pinned:
            return "equal to the pinned digest"
        if self.signer is not None:
            return "signed: pin it where bundles are loaded"
        return "not pinned: this rules out damage, not an attacker"

    def _signature(self) -> str:
        if self.signer is not None:
            return f"by {self.signer}"
        return "there, not verified: give --key or --identity" if self.signed else "none"

    def _render_graph(self, graph: GraphReport) -> str:
        if graph.max_error is None:
            return f"graph     {graph.id}: hashed; made for {graph.made_for}, it is not run here"
        errors = ", ".join(f"{name} {error:.2g}" for name, error in sorted(graph.max_error.items()))
        return f"graph     {graph.id}: reproduces its golden decisions on {graph.provider}; largest error: {errors}"


def verify_bundle(
    path: str | os.PathLike[str], digest: str | None = None, signer: Signer | None = None
) -> VerifyReport:
    """Reads a bundle, checks every hash and graph, and runs the golden self-test of each graph on the CPU.

    Graphs of OpenVINO run where it is installed.

    Args:
        path: The folder.
        digest: `sha256:…` that the bundle must have.
        signer: Who must have signed it.

    Raises:
        BundleError: The bundle is refused; each reason has its own class.
        ProviderError: ONNX Runtime cannot be used.
        MissingExtra: ONNX Runtime, or what checks signatures, is not installed.
    """
    bundle = read_bundle(path, digest=digest, signer=signer)
    options = SessionOptions(engine_seconds=60.0)
    manifest = bundle.manifest
    return VerifyReport(
        name=manifest.name,
        digest=manifest.digest,
        pinned=bundle.pinned,
        signed=bundle.signed,
        signer=None if signer is None else signer.name,
        proof=manifest.proof.kind,
        provider=resolve_provider(options.provider),
        golden_images=len(bundle.golden.images),
        files=len(manifest.files) + 1,
        size=bundle.size,
        graphs=tuple(_graph_report(bundle, index, options, OrtBackend.load) for index in range(len(manifest.graphs))),
        engines=tuple(map(_engine_line, manifest.engines)),
        warning=other_policy(manifest.calibration, bundle.policy),
    )


def describe(bundle: Bundle) -> dict[str, Any]:
    """The bundle in plain values, for people and for JSON: the manifest, the policy and the sizes of the graphs.

    `warnings` says what whoever relies on the bundle should know first.
    """
    warning = other_policy(bundle.manifest.calibration, bundle.policy)
    return {
        "path": str(bundle.path),
        "size": bundle.size,
        "signed": bundle.signed,
        "manifest": msgspec.to_builtins(bundle.manifest),
        "policy": msgspec.to_builtins(bundle.policy),
        "policy_digest": bundle.policy.digest,
        "uncovered": list(bundle.policy.uncovered_by(bundle.manifest.rule.covered)),
        "graph_bytes": {name: len(data) + len(bundle.weights.get(name, b"")) for name, data in bundle.graphs.items()},
        "golden_images": len(bundle.golden.images),
        "warnings": [] if warning is None else [warning],
    }


def _engine_line(engine: Engine) -> str:
    built = f"{TITLES[engine.flavor]} {engine.version} for {', '.join(engine.compute_capabilities)}"
    return f"engine    {engine.id}: hashed; {built}; not run here"


def _graph_report(bundle: Bundle, index: int, options: SessionOptions, opener: Opener) -> GraphReport:
    graph = bundle.manifest.graphs[index]
    wish = "openvino" if graph.backend == "openvino" else options.provider
    provider = errors = None
    if _runs_here(graph, wish):
        provider = provider_name(wish)
        check_graph(bundle.manifest, graph)
        backend, alone = open_backend(bundle, graph, replace(options, provider=wish), opener)
        try:
            together = self_test(bundle, graph, backend, batch=SMALLEST_BATCH)
        finally:
            backend.close()
        errors = {name: max(alone[name], together[name]) for name in alone}
    made_for = graph.backend if graph.target == "any" else graph.target
    return GraphReport(id=graph.id, made_for=made_for, precision=graph.precision, provider=provider, max_error=errors)


def _runs_here(graph: Graph, wish: str) -> bool:
    if graph.backend == "openvino":
        return find_spec("openvino") is not None
    return graph.target in TARGETS[resolve_provider(wish)]
