"""What the runtime demands of a manifest before it builds a session."""

from __future__ import annotations

from typing import TypeAlias

from safevlm_sdk.errors import BundleError, BundleGraph, BundleUncalibrated
from safevlm_sdk.manifest import (
    GATE,
    PROJECTED_HEAD,
    RGB_GATE,
    SAFETY_HEAD,
    SAFETY_PROJECTOR,
    VISION_ENCODER,
    Graph,
    Manifest,
    Role,
    TensorSpec,
)
from safevlm_sdk.taxonomy import RiskLevel

_Wanted: TypeAlias = tuple[str, tuple[int | None, ...]]

_TYPED = ("fp16", "bf16", "int8", "fp32")  # of which engines can be built
_FOR_TENSORRT = ("tensorrt", "any")
_OPENVINO = tuple(f"OpenVINO {device}" for device in ("CPU", "GPU", "NPU"))

PREFERRED = {
    "CPUExecutionProvider": ("int8", "fp32", "fp16", "w8", "w4"),
    "CUDAExecutionProvider": ("fp16", "fp32", "w8", "w4"),
    "TensorrtExecutionProvider": _TYPED,
    "NvTensorRTRTXExecutionProvider": _TYPED,
    "TensorRT": _TYPED,
    "TensorRT-RTX": _TYPED,
    # Few processors have bf16, and of these none is slow with int8.
    "OpenVINO CPU": ("int8", "fp16", "bf16", "fp32"),
    "OpenVINO GPU": ("fp16", "int8", "bf16", "fp32"),
    "OpenVINO NPU": ("fp16", "int8", "fp32"),
}
# What a graph may have been made for, by the provider that is to run it.
TARGETS = {
    "CPUExecutionProvider": ("any", "cpu"),
    "CUDAExecutionProvider": ("any",),
    "TensorrtExecutionProvider": _FOR_TENSORRT,
    "NvTensorRTRTXExecutionProvider": _FOR_TENSORRT,
    "TensorRT": _FOR_TENSORRT,
    "TensorRT-RTX": _FOR_TENSORRT,
    **dict.fromkeys(_OPENVINO, ("any", "cpu")),
}
_GATES = (GATE, VISION_ENCODER)
_TOWERS = (*_GATES, RGB_GATE)
_PIXELS, _FEATURES, _MASK = "pixel_values", "features", "mask"


def check_servable(manifest: Manifest, *, allow_uncalibrated: bool) -> None:
    """Refuses bundles that this version cannot serve as they promise.

    Raises:
        BundleUncalibrated: Its decisions were never proven.
    """
    if manifest.proof.kind == "numeric" and not allow_uncalibrated:
        raise BundleUncalibrated(
            f"bundle {manifest.name!r} proves numbers and no decisions: its weights are untrained or have no "
            "thresholds; calibrate it, or load it with allow_uncalibrated=True for a test"
        )


def choose_graph(manifest: Manifest, role: Role, provider: str, precision: str | None) -> Graph | None:
    """The graph of a role for a provider: of the given precision, or of the one that is usually fastest there.

    A head without a tower is float32 in bundles of any precision, and chosen whatever precision is asked for.

    Raises:
        BundleError: The bundle has graphs of this role, but none of that precision that the provider can run.
    """
    backend = "openvino" if provider in _OPENVINO else "onnxruntime"
    graphs = [graph for graph in manifest.graphs if graph.role == role and graph.backend == backend]
    order = (precision,) if precision is not None and role in _TOWERS else PREFERRED[provider]
    fitting = [graph for graph in graphs if graph.precision in order and graph.target in TARGETS[provider]]
    if graphs and not fitting:
        found = ", ".join(f"{graph.precision} for {graph.target}" for graph in graphs)
        wish = f"of precision {' or '.join(map(repr, order))}"
        raise BundleError(
            f"bundle {manifest.name!r} has no {role} graph {wish} for {provider}, only {found}; ask for another "
            "precision, or export the bundle with it"
        )
    targets = TARGETS[provider]
    chosen = min(fitting, key=lambda one: (order.index(one.precision), targets.index(one.target)), default=None)
    if chosen is not None:
        check_graph(manifest, chosen)
    return chosen


def check_graph(manifest: Manifest, graph: Graph) -> None:
    """Compares a graph's stated inputs and outputs with what its role must have.

    Raises:
        BundleGraph: They differ.
    """
    if manifest.identity.is_classifier:
        _check_classifier(graph)
    inputs, outputs = _wanted_inputs(manifest)[graph.role], _wanted_outputs(manifest, graph.role)
    if {stated.name for stated in graph.inputs} != set(inputs):
        found = [stated.name for stated in graph.inputs]
        raise BundleGraph(f"graph {graph.id}: its inputs are {found}; a {graph.role} takes {sorted(inputs)}")
    for stated in (*graph.inputs, *graph.outputs):
        wanted = inputs.get(stated.name) if stated in graph.inputs else outputs.get(stated.name)
        if wanted is not None:
            _check_spec(graph.id, stated, *wanted, one_image=graph.role == RGB_GATE)


def _wanted_inputs(manifest: Manifest) -> dict[str, dict[str, _Wanted]]:
    spec, width = manifest.preprocessing, manifest.identity.feature_width
    pixels: dict[str, _Wanted] = {_PIXELS: ("float32", (None, 3, spec.height, spec.width))}
    features: dict[str, _Wanted] = {_FEATURES: ("float32", (None, None, width))}
    mask: dict[str, _Wanted] = {_MASK: ("bool", (None, None))}
    return {
        GATE: pixels,
        VISION_ENCODER: pixels,
        SAFETY_HEAD: {**features, **mask},
        SAFETY_PROJECTOR: features,
        PROJECTED_HEAD: {"projected": ("float32", (None, None, None)), **mask},
        RGB_GATE: {"rgb": ("uint8", (None, None, 3))},
    }


def _wanted_outputs(manifest: Manifest, role: str) -> dict[str, _Wanted]:
    grid = manifest.identity.grid
    tokens = grid[0] * grid[1] if grid is not None and role in _GATES else None
    return {
        "type_logits": ("float32", (None, len(manifest.labels))),
        "level_logprobs": ("float32", (None, len(RiskLevel))),
        "attention": ("float32", (None, tokens)),
        "features": ("float32", (None, tokens, manifest.identity.feature_width)),
        "projected": ("float32", (None, None, None)),
    }


def _check_classifier(graph: Graph) -> None:
    """A classifier takes pixels, and has no grid that features or attention could be of."""
    over = sorted(spec.name for spec in graph.outputs if spec.name in ("attention", "features"))
    if graph.role not in (GATE, RGB_GATE) or over:
        raise BundleGraph(
            f"graph {graph.id}: the manifest gives neither tap nor grid, so there is no "
            f"{', '.join(over) or graph.role} to serve; export the bundle again"
        )


def _check_spec(
    graph: str, stated: TensorSpec, dtype: str, shape: tuple[int | None, ...], *, one_image: bool
) -> None:
    fits = len(stated.shape) == len(shape) and all(
        size is None or size == found for size, found in zip(shape, stated.shape, strict=True)
    )
    batch = stated.shape[0] if stated.shape and not one_image else "any"
    if stated.dtype != dtype or not fits or (isinstance(batch, int) and batch != 1):
        wanted = ["any" if size is None else size for size in shape]
        raise BundleGraph(
            f"graph {graph}: {stated.name} is stated as {stated.dtype} {list(stated.shape)}; {dtype} {wanted} "
            "with a batch of 1 or of any size is served"
        )
