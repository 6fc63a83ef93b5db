"""Exporting the graphs of a checkpoint and proving each of them against it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from safevlm_export.golden_vectors import choose_golden
from safevlm_export.one_by_one import OneByOne
from safevlm_export.parts import Parts, sources_of
from safevlm_export.proof import Evidence, GraphResult
from safevlm_export.proof_images import ProofImage, ProofImages
from safevlm_export.proven_on import this_machine
from safevlm_export.reference import Array, Reference, Vectors
from safevlm_export.rgb_graph import rgb_gate
from safevlm_export.tolerances import tolerances
from safevlm_export.tracing import export_graph
from safevlm_runtime.backends.backend import Backend
from safevlm_runtime.backends.ort_backend import OrtBackend, SessionOptions
from safevlm_runtime.bundle.onnx_guard import check_onnx
from safevlm_runtime.bundle.self_test import fixed_batch
from safevlm_sdk.decision import Rule, decide
from safevlm_sdk.errors import ProofFailed
from safevlm_sdk.golden import Golden
from safevlm_sdk.manifest import DECISION_OUTPUTS, RGB_GATE, SAFETY_HEAD, Graph, Role, TensorSpec
from safevlm_sdk.margins import said, same
from safevlm_sdk.policy import Policy
from safevlm_training.risk_model import RiskModel

BATCH = 8
ENGINE_SECONDS = 600.0
FEATURES = "features"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exported:
    """One graph, ready for its proof.

    Attributes:
        graph: Its entry in the manifest, whose tolerances are still open.
        data: Its bytes.
        backend: Runs it in the proof; closed by whoever opened the graph.
        head_from: The value behind which the head begins, which stays float32 in every precision.
        notes: How it came about, for reports.
        weights: The bytes of its second file, where its format has one.
    """

    graph: Graph
    data: bytes
    backend: Backend
    head_from: str | None = FEATURES
    notes: tuple[str, ...] = ()
    weights: bytes | None = None

    @property
    def files(self) -> dict[str, bytes]:
        """Path inside the bundle to bytes."""
        found = {self.graph.file: self.data}
        if self.graph.weights is not None and self.weights is not None:
            found[self.graph.weights] = self.weights
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judgement:
    """How outputs become decisions: the bundle's rule, the policy that ships, and the flips that are forgiven."""

    rule: Rule
    policy: Policy
    max_flips: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proven:
    """Graphs that decide as the original does.

    Attributes:
        graphs: Entries for the manifest, complete.
        data: Path inside the bundle to the graph's bytes.
        results: Graph id to proof.
        golden: Golden vectors.
    """

    graphs: tuple[Graph, ...]
    data: Mapping[str, bytes]
    results: Mapping[str, GraphResult]
    golden: Golden


@contextmanager
def exported_graphs(
    model: RiskModel, parts: Parts, *, checkpoint_digest: str, opset: int
) -> Iterator[list[Exported]]:
    """The gate, the safety head and what else is wanted, each in a session of ONNX Runtime, closed at the end.

    Raises:
        ExportError: PyTorch cannot export a graph.
        BundleGraph: The runtime would refuse it.
    """
    opened: list[Exported] = []
    try:
        for source in sources_of(model, parts):
            identity = {"checkpoint": checkpoint_digest, "role": source.role}
            made = export_graph(source, identity=identity, opset=opset)
            one = opened_graph(source.role, made.source.inputs, made.source.outputs, made.data, notes=made.notes)
            opened.append(replace(one, graph=msgspec.structs.replace(one.graph, exporter=made.exporter)))
        if parts.rgb:
            identity = {"checkpoint": checkpoint_digest, "role": RGB_GATE}
            gate = opened[0]
            rgb = rgb_gate(gate.data, gate.graph.outputs, model.config.preprocessing, identity=identity)
            opened.append(opened_graph(RGB_GATE, rgb.inputs, rgb.outputs, rgb.data))
        yield opened
    finally:
        for one in opened:
            one.backend.close()


def prove(reference: Reference, exported: Sequence[Exported], images: ProofImages, judgement: Judgement) -> Proven:
    """Compares every graph with what it was made of, and chooses golden vectors and tolerances.

    Raises:
        ProofFailed: A graph does not decide as the original does.
        ExportError: An image cannot be decoded.
        EngineError: A graph does not run.
    """
    rule, policy = judgement.rule, judgement.policy
    evidence = [
        Evidence(
            graph=one.graph.id,
            backend=one.backend,
            rule=rule,
            policy=policy,
            precision=one.graph.precision,
            left_out_by=_left_out_by(one.graph),
        )
        for one in exported
    ]
    for batch in in_batches(images.load()):
        vectors = reference([image.pixels for image in batch])
        for one, collected in zip(exported, evidence, strict=True):
            collected.add([image.name for image in batch], vectors[one.graph.role])
    results = {
        one.graph.id: replace(collected.result(max_flips=judgement.max_flips), notes=one.notes)
        for one, collected in zip(exported, evidence, strict=True)
    }
    rasters, chosen = choose_golden(reference, images.generated(), rule, policy)
    given = {
        one.graph.id: _golden_outputs(one, chosen[one.graph.role], judgement, results[one.graph.id].proof.flips)
        for one in exported
    }
    features, mask = _golden_features(chosen)
    return Proven(
        graphs=tuple(
            _with_tolerances(one, chosen[one.graph.role], given[one.graph.id], results[one.graph.id])
            for one in exported
        ),
        data={path: data for one in exported for path, data in one.files.items()},
        results=results,
        golden=Golden(images=rasters, features=features, mask=mask, expected=given),
    )


def opened_graph(
    role: Role, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], data: bytes, **more: Any
) -> Exported:
    """A float32 graph in a session of ONNX Runtime on the CPU; close its backend afterwards.

    Args:
        role: What it is for.
        inputs: In order.
        outputs: In order.
        data: Its bytes.
        more: Other attributes of `Exported`.

    Raises:
        BundleGraph: The runtime would refuse it.
    """
    graph = Graph(
        id=f"{role}.fp32",
        role=role,
        backend="onnxruntime",
        precision="fp32",
        file=f"graphs/{role}.fp32.onnx",
        inputs=inputs,
        outputs=outputs,
        tolerance=dict.fromkeys((spec.name for spec in outputs), 1.0),
        target="any",
        proven_on=this_machine(),
    )
    return Exported(graph=graph, data=data, backend=proof_backend(graph, data), **more)


def proof_backend(graph: Graph, data: bytes) -> Backend:
    """A session of ONNX Runtime on the CPU that takes any number of rows.

    Raises:
        BundleGraph: The runtime would refuse the graph.
    """
    check_onnx(data, where=graph.id)
    backend: Backend = OrtBackend.load(data, graph, SessionOptions(engine_seconds=ENGINE_SECONDS))
    if graph.role == RGB_GATE:
        return OneByOne(backend, batched=False)
    return OneByOne(backend) if fixed_batch(graph) == 1 else backend


def in_batches(images: Iterable[ProofImage]) -> Iterator[list[ProofImage]]:
    """The images, eight at a time."""
    iterator = iter(images)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _golden_outputs(one: Exported, golden: Vectors, judgement: Judgement, flips: int) -> dict[str, Array]:
    """The original's outputs for a float32 graph; for any other what the graph itself gives.

    Raises:
        ProofFailed: With the golden inputs, more decisions changed than may; `flips` of the proof images did.
    """
    if one.graph.precision == "fp32":
        return golden.expected
    found: dict[str, Array] = one.backend.run(golden.inputs, list(golden.expected))
    if not one.graph.decides:
        return found
    types, levels = DECISION_OUTPUTS
    changed = []
    for row in range(len(found[types])):
        wanted, got = (
            decide(values[types][row], values[levels][row], judgement.rule, judgement.policy)
            for values in (golden.expected, found)
        )
        if not same(wanted, got):
            changed.append(f"golden image {row} is {said(got)} instead of {said(wanted)}")
    if flips + len(changed) > judgement.max_flips and changed:
        raise ProofFailed(
            f"{one.graph.id}: {flips} proof images and {len(changed)} of {len(found[types])} golden ones, which are "
            f"generated and small, changed category, level or action, {judgement.max_flips} may "
            f"({'; '.join(changed)}). Nothing was written: {_left_out_by(one.graph)}"
        )
    return found


def _left_out_by(graph: Graph) -> str:
    """How to export without a graph."""
    return "leave out --openvino" if graph.backend == "openvino" else f"leave {graph.precision} out of --precision"


def _golden_features(chosen: Mapping[str, Vectors]) -> tuple[Array, NDArray[np.bool_]]:
    """What graphs of features take in the self-test; nothing in a bundle without such graphs."""
    if SAFETY_HEAD not in chosen:
        return np.zeros((0, 0, 0), dtype=np.float32), np.zeros((0, 0), dtype=np.bool_)
    inputs = chosen[SAFETY_HEAD].inputs
    return inputs["features"].astype(np.float32), inputs["mask"].astype(np.bool_)


def _with_tolerances(one: Exported, golden: Vectors, given: Mapping[str, Array], result: GraphResult) -> Graph:
    found = one.backend.run(golden.inputs, list(given))
    allowed = tolerances(given, found, result.proof.max_error, one.graph.precision)
    return msgspec.structs.replace(one.graph, tolerance=allowed)
