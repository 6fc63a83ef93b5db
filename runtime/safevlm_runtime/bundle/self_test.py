"""The golden self-test: a backend proves on this machine that it computes and decides as the bundle was proven to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from safevlm_runtime.backends.backend import Backend
from safevlm_runtime.bundle.reader import Bundle
from safevlm_sdk.decision import Decision, decide
from safevlm_sdk.errors import BundleSelfTest, EngineError, EngineTimeout
from safevlm_sdk.manifest import (
    IMAGE_ROLES,
    PROJECTED_HEAD,
    RGB_GATE,
    SAFETY_PROJECTOR,
    Graph,
)
from safevlm_sdk.preprocess import preprocess

SMALLEST_BATCH: Final = 2
"""What proves that a graph takes batches."""


def self_test(bundle: Bundle, graph: Graph, backend: Backend, *, batch: int = 1) -> dict[str, float]:
    """Runs the golden inputs and compares outputs and decisions.

    Args:
        bundle: Has the golden inputs.
        graph: What is proven.
        backend: Runs it.
        batch: Inputs per run, unless the graph insists on a number.

    Returns:
        Output name to the largest absolute difference from its golden values.

    Raises:
        BundleSelfTest: Something differs, is not finite, or did not run; the message has the numbers.
    """
    rows = len(bundle.golden.images if graph.role in (*IMAGE_ROLES, RGB_GATE) else bundle.golden.features)
    expected = _expected(bundle, graph, rows)
    size = 1 if graph.role == RGB_GATE else fixed_batch(graph) or batch
    spans = [slice(at, at + size) for at in range(0, rows, size)]
    errors = dict.fromkeys(expected, 0.0)
    for span in spans:
        found = _run(backend, graph, golden_inputs(bundle, graph, span), expected)
        for name, values in expected.items():
            errors[name] = max(errors[name], _difference(graph, name, values[span], found[name]))
        for row in range(len(found["type_logits"]) if graph.decides else 0):
            _compare_decisions(bundle, graph, expected, found, span.start + row, row)
    return errors


def golden_inputs(bundle: Bundle, graph: Graph, rows: slice) -> dict[str, NDArray[Any]]:
    """Input name to some golden inputs, stacked; for a graph on images of any size, to the first of them."""
    golden = bundle.golden
    if graph.role == RGB_GATE:
        return {"rgb": golden.images[rows.start]}
    if graph.role in IMAGE_ROLES:
        tensors = [preprocess(image, bundle.manifest.preprocessing) for image in golden.images[rows]]
        return {"pixel_values": np.stack(tensors)}
    features, mask = golden.features, golden.mask
    width = bundle.manifest.identity.feature_width
    fits = features.ndim == 3 and features.shape[2] == width and len(features) > 0
    if not fits or mask.shape != features.shape[:2] or features.dtype != np.float32 or mask.dtype != np.bool_:
        raise BundleSelfTest(f"graph {graph.id}: the golden features {features.shape} or their mask do not fit it")
    features, mask = features[rows], mask[rows]
    if graph.role == SAFETY_PROJECTOR:
        # What is masked holds garbage, and this graph knows of no mask.
        return {"features": np.where(mask[..., None], features, np.float32(0))}
    if graph.role == PROJECTED_HEAD:
        return {"projected": _golden_projected(bundle, graph)[rows], "mask": mask}
    return {"features": features, "mask": mask}


def _golden_projected(bundle: Bundle, graph: Graph) -> NDArray[np.float32]:
    """What the projector before this graph must give."""
    for before in bundle.manifest.graphs:
        outputs = bundle.golden.expected.get(before.id, {})
        if before.role == SAFETY_PROJECTOR and before.precision == "fp32" and "projected" in outputs:
            return outputs["projected"]
    raise BundleSelfTest(f"graph {graph.id}: golden.npz has no output of a safety projector; export the bundle again")


def fixed_batch(graph: Graph) -> int | None:
    """The batch size that a graph insists on, or None."""
    size = graph.inputs[0].shape[0]
    return size if isinstance(size, int) else None


def _expected(bundle: Bundle, graph: Graph, rows: int) -> dict[str, NDArray[np.float32]]:
    golden: Mapping[str, NDArray[np.float32]] = bundle.golden.expected.get(graph.id, {})
    for name in graph.tolerance:
        values = golden.get(name)
        if values is None or len(np.shape(values)) < 1 or len(values) != rows or not np.isfinite(values).all():
            raise BundleSelfTest(f"graph {graph.id}: golden.npz has no {rows} finite rows of {name}; export it again")
    return {name: golden[name] for name in graph.tolerance}


def _run(
    backend: Backend, graph: Graph, inputs: dict[str, NDArray[Any]], expected: Mapping[str, Any]
) -> dict[str, NDArray[Any]]:
    try:
        return backend.run(inputs, list(expected))
    except EngineTimeout as problem:
        raise BundleSelfTest(f"graph {graph.id}: too slow on this machine: {problem}") from problem
    except EngineError as problem:
        raise BundleSelfTest(f"graph {graph.id}: does not run on {backend.provider}: {problem}") from problem


def _difference(graph: Graph, name: str, expected: NDArray[Any], found: NDArray[Any]) -> float:
    if expected.shape != found.shape:
        raise BundleSelfTest(f"graph {graph.id}: {name} has shape {found.shape}, golden is {expected.shape}")
    if not np.isfinite(found).all():
        raise BundleSelfTest(f"graph {graph.id}: {name} holds NaN or infinity on a golden input")
    error = float(np.abs(expected.astype(np.float64) - found.astype(np.float64)).max(initial=0.0))
    if not error <= graph.tolerance[name]:
        raise BundleSelfTest(
            f"graph {graph.id}: {name} differs from its golden values by {error:.3g}, "
            f"tolerated is {graph.tolerance[name]:.3g}; ask for another precision, use another provider, or export a "
            "bundle on this machine"
        )
    return error


def _compare_decisions(
    bundle: Bundle, graph: Graph, expected: Mapping[str, Any], found: Mapping[str, Any], golden_row: int, row: int
) -> None:
    wanted = _decision(bundle, expected["type_logits"][golden_row], expected["level_logprobs"][golden_row])
    got = _decision(bundle, found["type_logits"][row], found["level_logprobs"][row])
    said, says = _said(wanted), _said(got)
    if wanted.error is not None or said != says:
        raise BundleSelfTest(
            f"graph {graph.id}: golden input {golden_row} was decided {said} when it was exported and {says} here"
        )


def _decision(bundle: Bundle, type_logits: NDArray[Any], level_logprobs: NDArray[Any]) -> Decision:
    return decide(type_logits, level_logprobs, bundle.manifest.rule, bundle.policy)


def _said(decision: Decision) -> str:
    level = "no level" if decision.level is None else decision.level.name
    return f"{decision.action.value} / {decision.category or decision.error} / {level}"
