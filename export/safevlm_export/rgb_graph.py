"""A gate that takes an image as it is decoded: the preprocessing as the first part of the graph.

It does what `safevlm_sdk.preprocess` does, bit for bit: the sizes are whole numbers that are computed here, the
pixels stay uint8 through both passes of the resize, and the normalised value of each pixel value is looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from safevlm_export.classifier.graph_builder import GraphBuilder
from safevlm_export.joining import joined
from safevlm_export.resize_graph import REACH, resized
from safevlm_export.to_onnx import MIN_OPSET, serialised, tidy
from safevlm_sdk.errors import ExportError
from safevlm_sdk.manifest import DECISION_OUTPUTS, RGB_GATE, TensorSpec
from safevlm_sdk.preprocess import Preprocessing, normalisation_table

RGB = "rgb"
PIXELS = "pixel_values"
OUTPUTS = (*DECISION_OUTPUTS, "attention")
IR_VERSION = 8  # the oldest that knows opset 18; the gate's own is taken where that is newer
INPUTS = (TensorSpec(name=RGB, dtype="uint8", shape=("height", "width", 3)),)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RgbGate:
    """A gate with its preprocessing inside; it takes one image, uint8 [H, W, 3], and gives a batch of one."""

    data: bytes
    outputs: tuple[TensorSpec, ...]
    inputs: tuple[TensorSpec, ...] = INPUTS


def rgb_gate(gate: bytes, outputs: Sequence[TensorSpec], spec: Preprocessing, *, identity: dict[str, str]) -> RgbGate:
    """Puts the preprocessing before an exported gate.

    Args:
        gate: The serialised gate, of any precision.
        outputs: What the gate gives; type logits, level log-probabilities and attention stay.
        spec: The bundle's preprocessing.
        identity: Kept in the graph's metadata.

    Raises:
        ExportError: The preprocessing has a filter that is not here, or the gate is of an opset before 18.
    """
    model = onnx.load_from_string(gate)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    kept = tuple(_alone(output) for output in outputs if output.name in OUTPUTS)
    whole = joined(preprocessing_graph(spec, opset), model, through=PIXELS, keep=False)
    tidy(whole, identity)
    del whole.graph.output[:]
    whole.graph.output.extend(
        helper.make_tensor_value_info(output.name, TensorProto.FLOAT, output.shape) for output in kept
    )
    return RgbGate(data=serialised(whole, RGB_GATE, full_check=False), outputs=kept)


def _alone(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(name=spec.name, dtype=spec.dtype, shape=(1, *spec.shape[1:]))


def preprocessing_graph(spec: Preprocessing, opset: int) -> onnx.ModelProto:
    """From `rgb`, uint8 [H, W, 3], to `pixel_values`, float32 [1, 3, h, w].

    Raises:
        ExportError: The preprocessing has a filter that is not here, or the opset is before 18.
    """
    if spec.resample not in REACH:
        raise ExportError(
            f"{RGB_GATE}: the preprocessing resizes with {spec.resample}; only {' and '.join(REACH)} can be in a "
            "graph: leave --uint8-input out"
        )
    if opset < MIN_OPSET:
        raise ExportError(f"{RGB_GATE}: the gate is of opset {opset}; its preprocessing takes {MIN_OPSET}")
    graph = GraphBuilder(opset, RGB)
    size = _size(graph, spec)
    image = resized(graph, graph.op("Transpose", RGB, perm=[2, 0, 1]), size, spec.resample)
    image = graph.op("Slice", image, *_window(graph, size, spec), _ints(graph, 1, 2))
    rows = graph.constant(np.arange(0, 768, 256, dtype=np.int32).reshape(1, 3, 1, 1))
    index = graph.op("Add", graph.op("Cast", image, to=TensorProto.INT32), rows)
    graph.op("Gather", graph.constant(normalisation_table(spec).reshape(-1)), index, output=PIXELS)
    given = helper.make_tensor_value_info(RGB, TensorProto.UINT8, INPUTS[0].shape)
    made = helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, (1, 3, spec.height, spec.width))
    nodes = helper.make_graph(graph.nodes, "preprocessing", [given], [made], graph.constants)
    return helper.make_model(nodes, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)


def _size(graph: GraphBuilder, spec: Preprocessing) -> str:
    """int64 [2]: height and width after resizing, as `safevlm_sdk.preprocess.resized_shape` says."""
    if spec.shortest_edge is None:
        return _ints(graph, spec.height, spec.width)
    size = graph.op("Shape", RGB, start=0, end=2)
    shorter = graph.op("Min", *(graph.op("Gather", size, _ints(graph, axis)) for axis in (0, 1)))
    return graph.op("Div", graph.op("Mul", size, _ints(graph, spec.shortest_edge)), shorter)


def _window(graph: GraphBuilder, size: str, spec: Preprocessing) -> tuple[str, str]:
    """int64 [2] each: top and left, bottom and right of what is cut out of the centre."""
    wanted = _ints(graph, spec.height, spec.width)
    start = graph.op("Div", graph.op("Sub", size, wanted), _ints(graph, 2))
    return start, graph.op("Add", start, wanted)


def _ints(graph: GraphBuilder, *values: int) -> str:
    return graph.constant(np.array(values, dtype=np.int64))
