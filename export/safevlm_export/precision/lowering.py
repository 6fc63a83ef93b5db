"""From float32 graphs to graphs of the precisions that were asked for, each ready for its own proof."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from safevlm_export.precision.anatomy import head_nodes, tower_layers, typed
from safevlm_export.precision.calibration import measured_ranges
from safevlm_export.precision.calibration_images import CalibrationBatch, calibration_batches
from safevlm_export.precision.exclusion import Harm, choose_excluded
from safevlm_export.precision.finished import finished
from safevlm_export.precision.half import HalfKind, to_half
from safevlm_export.precision.int8 import quantized_layers, to_int8
from safevlm_export.precision.rounded import emulation
from safevlm_export.precision.weights_only import to_weights_only
from safevlm_export.proof import Evidence
from safevlm_export.proof_images import ProofImages
from safevlm_export.proven_on import this_machine
from safevlm_export.proving import Exported, Judgement, Proven, proof_backend, prove
from safevlm_export.reference import Reference
from safevlm_export.to_openvino import openvino_graphs
from safevlm_sdk.errors import ProofFailed
from safevlm_sdk.manifest import GATE, VISION_ENCODER, Graph, Precision

Target = Literal["any", "cpu", "tensorrt"]
# Graphs with a tower in them; the others are the head, or a part of it, and stay float32.
LOWERED_ROLES = (GATE, VISION_ENCODER)
# The search looks at few images, the proof at all: what it leaves may be half of what is allowed.
SEARCHED_SHARE = 0.5
SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowering:
    """A precision, and what the graph is for."""

    precision: Precision
    target: Target


def wishes_of(precisions: Collection[Precision], *, tensorrt: bool) -> tuple[Lowering, ...]:
    """The graphs that a list of precisions stands for, without float32, which is there already.

    Args:
        precisions: As the command takes them.
        tensorrt: Whether engines will be built: int8 then needs a graph for their parser, too.
    """
    wishes = []
    for precision in dict.fromkeys(precisions):
        if precision == "int8":
            wishes += [Lowering(precision=precision, target="cpu")]
            wishes += [Lowering(precision=precision, target="tensorrt")] if tensorrt else []
        elif precision != "fp32":
            wishes.append(Lowering(precision=precision, target="tensorrt" if precision == "bf16" else "any"))
    return tuple(wishes)


def prove_lowered(
    reference: Reference,
    exported: Sequence[Exported],
    images: ProofImages,
    judgement: Judgement,
    wishes: Sequence[Lowering],
    *,
    openvino: bool = False,
) -> Proven:
    """Proves graphs, what is made of them, and with `openvino` the IR of all.

    See `prove`, `lowered_graphs` and `openvino_graphs` for arguments and errors.
    """
    with lowered_graphs(exported, wishes, partial(calibration_batches, reference, images), judgement) as lowered:
        made = [*exported, *lowered]
        opening: AbstractContextManager[list[Exported]] = openvino_graphs(made) if openvino else nullcontext([])
        with opening as irs:
            return prove(reference, [*made, *irs], images, judgement)


@contextmanager
def lowered_graphs(
    exported: Sequence[Exported],
    wishes: Sequence[Lowering],
    calibration: Callable[[], Sequence[CalibrationBatch]],
    judgement: Judgement,
) -> Iterator[list[Exported]]:
    """The graphs of other precisions, each in a session of ONNX Runtime on the CPU, closed at the end.

    Args:
        exported: Graphs of float32; those without a tower are passed over.
        wishes: What to make of each.
        calibration: Gives images; called only where a wish needs them.
        judgement: How outputs become decisions.

    Raises:
        ProofFailed: No choice of int8 layers keeps the decisions on the calibration images.
        ExportError: A graph cannot be made.
        BundleGraph: The runtime would refuse it.
    """
    opened: list[Exported] = []
    needed = any(wish.precision == "int8" for wish in wishes)
    batches = calibration() if needed else ()
    try:
        for one in exported:
            for wish in wishes:
                if one.graph.role in LOWERED_ROLES:
                    opened.append(lowered(one, wish, batches, judgement))
        yield opened
    finally:
        for one in opened:
            one.backend.close()


def lowered(one: Exported, wish: Lowering, batches: Sequence[CalibrationBatch], judgement: Judgement) -> Exported:
    """One graph in another precision; close its backend afterwards. See `lowered_graphs`."""
    suffix = f"{wish.precision}.tensorrt" if wish == Lowering(precision="int8", target="tensorrt") else wish.precision
    graph = msgspec.structs.replace(
        one.graph,
        id=f"{one.graph.role}.{suffix}",
        file=f"graphs/{one.graph.role}.{suffix}.onnx",
        precision=wish.precision,
        target=wish.target,
    )
    notes: tuple[str, ...] = ()
    if wish.precision in ("fp16", "bf16"):
        kind: HalfKind = "fp16" if wish.precision == "fp16" else "bf16"
        data = finished(to_half(one.data, kind, head_from=one.head_from), one.data, graph)
        how = f"{this_machine()}: an emulation in float32 with every {kind} value rounded as it would be stored"
        graph = msgspec.structs.replace(graph, proven_on=how)
        backend = proof_backend(graph, emulation(data))
        return Exported(graph=graph, data=data, backend=backend, head_from=one.head_from)
    if wish.precision == "int8":
        graph, data, notes = _int8(one, graph, batches, judgement)
    else:
        kind_of_weights: Literal["w8", "w4"] = "w8" if wish.precision == "w8" else "w4"
        data = finished(to_weights_only(one.data, kind_of_weights, head_from=one.head_from), one.data, graph)
    backend = proof_backend(graph, data)
    return Exported(graph=graph, data=data, backend=backend, head_from=one.head_from, notes=notes)


def _int8(
    one: Exported, graph: Graph, batches: Sequence[CalibrationBatch], judgement: Judgement
) -> tuple[Graph, bytes, tuple[str, ...]]:
    """The graph with as many int8 layers as decisions allow, and what that took."""
    model = typed(one.data)
    inputs = [batch.vectors[graph.role].inputs for batch in batches]
    ranges = measured_ranges(model, (row for found in inputs for row in _one_by_one(found)))
    target: Literal["cpu", "tensorrt"] = "tensorrt" if graph.target == "tensorrt" else "cpu"

    def build(excluded: Collection[str]) -> bytes:
        return to_int8(model, ranges, head_from=one.head_from, target=target, excluded=excluded)

    def harm(excluded: Collection[str]) -> Harm:
        backend = proof_backend(graph, build(excluded))
        evidence = Evidence(
            graph=graph.id,
            backend=backend,
            rule=judgement.rule,
            policy=judgement.policy,
            precision=graph.precision,
        )
        try:
            for batch in batches:
                evidence.add(batch.names, batch.vectors[graph.role])
        finally:
            backend.close()
        return Harm(flips=evidence.flips, error=evidence.share_of_allowed)

    layers = quantized_layers(model, one.head_from)
    chosen = choose_excluded(layers, harm, max_flips=judgement.max_flips, max_error=SEARCHED_SHARE)
    names = tower_layers(model, head_nodes(model, one.head_from))
    kept = tuple(names[layer] for layer in chosen.layers)
    images = sum(len(batch.names) for batch in batches)
    told = (
        f"{len(layers) - len(kept)} of {len(layers)} layers are int8; on {images} calibration images: {chosen.before}"
    )
    if kept:
        told += f"; with {', '.join(kept[:SHOWN])}{' …' if len(kept) > SHOWN else ''} in float32: {chosen.after}"
    if not chosen.fits:
        raise ProofFailed(
            f"{graph.id}: {told}; {judgement.max_flips} flips and {SEARCHED_SHARE:g} of it are the most. Nothing was "
            "written: leave int8 out of --precision, or try it with more images in --calibration-data"
        )
    graph = msgspec.structs.replace(graph, kept_fp32=kept)
    return graph, finished(build(chosen.layers), one.data, graph), (told,)


def _one_by_one(inputs: Mapping[str, NDArray[np.generic]]) -> Iterator[dict[str, NDArray[np.generic]]]:
    for row in range(len(next(iter(inputs.values())))):
        yield {name: values[row : row + 1] for name, values in inputs.items()}
