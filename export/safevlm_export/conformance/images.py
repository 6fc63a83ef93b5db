"""A tiny gate that takes uint8 RGB, made without training, and images with what it says of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from safevlm_export.classifier.graph_builder import GraphBuilder
from safevlm_export.conformance.cases import LABELS
from safevlm_export.proving import opened_graph
from safevlm_export.rgb_graph import PIXELS, RGB, rgb_gate
from safevlm_runtime.backends.backend import Backend
from safevlm_sdk.manifest import DECISION_OUTPUTS, RGB_GATE, TensorSpec
from safevlm_sdk.preprocess import Preprocessing

SIDE, PATCH, CHANNELS = 32, 8, 6
OPSET, IR_VERSION = 18, 10
LEVELS = 4
SPEC = Preprocessing(
    resize="shortest_edge",
    height=SIDE,
    width=SIDE,
    shortest_edge=36,
    resample="bicubic",
    rescale_factor=1 / 255,
    mean=(0.48, 0.46, 0.41),
    std=(0.27, 0.26, 0.28),
)
# (height, width) of the images: enlarged and shrunk, square and not, rows first and columns first.
SIZES = ((36, 36), (8, 8), (20, 61), (83, 29), (40, 41), (100, 37), (9, 120))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageVector:
    """One image, uint8 RGB [H, W, 3], and the gate's outputs."""

    name: str
    pixels: NDArray[np.uint8]
    type_logits: tuple[float, ...]
    level_logprobs: tuple[float, ...]


def tiny_rgb_gate() -> bytes:
    """The graph: the preprocessing, one convolution over patches, and two linear heads."""
    made = rgb_gate(_gate(), _specs(), SPEC, identity={"checkpoint": "none", "role": RGB_GATE})
    model = onnx.load_from_string(made.data)
    # The version of this package would make another file of the same graph.
    model.producer_version = ""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def image_vectors(graph: bytes) -> tuple[ImageVector, ...]:
    """What ONNX Runtime makes of the images."""
    inputs = (TensorSpec(name=RGB, dtype="uint8", shape=("height", "width", 3)),)
    outputs = tuple(TensorSpec(name=spec.name, dtype="float32", shape=(1, *spec.shape[1:])) for spec in _specs())
    backend = opened_graph(RGB_GATE, inputs, outputs, graph).backend
    try:
        return tuple(_vector(backend, number, size) for number, size in enumerate(SIZES))
    finally:
        backend.close()


def _vector(backend: Backend, number: int, size: tuple[int, int]) -> ImageVector:
    pixels = _picture(number, *size)
    image = np.empty(1, dtype=object)
    image[0] = pixels
    types, levels = (backend.run({RGB: image}, DECISION_OUTPUTS)[name][0] for name in DECISION_OUTPUTS)
    return ImageVector(
        name=f"{size[0]}x{size[1]}",
        pixels=pixels,
        type_logits=tuple(map(float, types)),
        level_logprobs=tuple(map(float, levels)),
    )


def _picture(number: int, height: int, width: int) -> NDArray[np.uint8]:
    """By turns a smooth ramp, stripes and something like noise, in whole numbers."""
    rows, columns, channels = np.ogrid[:height, :width, :3]
    kinds = (
        (rows * 255 // height + columns * 3 + channels * 60) % 256,
        np.where((rows // 3 + columns // 5) % 2 == 0, 230 - 70 * channels, 20 + 40 * channels),
        (rows * rows * 31 + columns * 57 + rows * columns * 13 + channels * 101) % 256,
    )
    return np.ascontiguousarray(np.broadcast_to(kinds[number % 3], (height, width, 3)), dtype=np.uint8)


def _gate() -> bytes:
    graph = GraphBuilder(OPSET, "gate")
    filters = graph.constant(_weights(CHANNELS, 3, PATCH, PATCH))
    seen = graph.op("Relu", graph.op("Conv", PIXELS, filters, strides=[PATCH, PATCH]))
    pooled = graph.op("ReduceMean", seen, graph.constant(np.array([2, 3], dtype=np.int64)), keepdims=0)
    graph.op("MatMul", pooled, graph.constant(3 * _weights(CHANNELS, len(LABELS))), output="type_logits")
    levels = graph.op("MatMul", pooled, graph.constant(2 * _weights(CHANNELS, LEVELS)))
    graph.op("LogSoftmax", levels, output="level_logprobs", axis=1)
    given = helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, ("batch", 3, SIDE, SIDE))
    made = [helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, spec.shape) for spec in _specs()]
    nodes = helper.make_graph(graph.nodes, "gate", [given], made, graph.constants)
    model = helper.make_model(nodes, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _specs() -> tuple[TensorSpec, ...]:
    return (
        TensorSpec(name="type_logits", dtype="float32", shape=("batch", len(LABELS))),
        TensorSpec(name="level_logprobs", dtype="float32", shape=("batch", LEVELS)),
    )


def _weights(*shape: int) -> NDArray[np.float32]:
    """Numbers of two decimals between -.5 and .5, always the same."""
    count = int(np.prod(shape))
    return ((np.arange(count) * 37 % 101 - 50) / np.float32(100)).astype(np.float32).reshape(shape)
