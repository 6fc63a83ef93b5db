"""Typed graphs of 16-bit floating point: fp16 and bf16 in the tower, float32 where they would lose too much."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import numpy as np
import onnx
import onnx.version_converter
from onnx import TensorProto, helper, numpy_helper

from safevlm_export.precision.anatomy import drop_unused, element_types, head_nodes, replace_nodes, typed

HalfKind = Literal["fp16", "bf16"]
TYPES: dict[HalfKind, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
# Older operator sets have no convolution in bf16.
BF16_OPSET = 22
# Everything else stays float32: normalisation, softmax, and every sum of many numbers outside of a matrix product.
# fmt: off
HALF_OPS = frozenset((
    "Add", "AveragePool", "Clip", "Concat", "Conv", "Div", "Elu", "Erf", "Expand", "Flatten", "Gather", "Gelu",
    "Gemm", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "MatMul", "MaxPool", "Mish", "Mul", "Neg", "Pad",
    "PRelu", "Relu", "Reshape", "Sigmoid", "Slice", "Split", "Squeeze", "Sub", "Swish", "Tanh", "Transpose",
    "Unsqueeze", "Where",
))
# fmt: on


def to_half(data: bytes, kind: HalfKind, *, head_from: str | None, ops: Collection[str] = HALF_OPS) -> bytes:
    """The graph with 16-bit floating point inside its tower.

    Args:
        data: A float32 graph.
        kind: Which; bf16 has the range of float32, fp16 ends at 65504.
        head_from: The value behind which everything stays float32.
        ops: What computes in 16 bits.

    Returns:
        A strongly typed graph: every change of precision is a Cast. A weight too large for fp16 becomes infinite, so
        that the proof refuses it.
    """
    model = typed(data if kind == "fp16" else _with_opset(data, BF16_OPSET))
    head = head_nodes(model, head_from)
    lowering = _Lowering(model, TYPES[kind])
    for node in model.graph.node:
        low = node.op_type in ops and node.name not in head and node.domain in ("", "ai.onnx")
        lowering.add(node, low=low)
    for value in model.graph.output:
        lowering.as_float(value.name)
    replace_nodes(model.graph, lowering.nodes)
    model.graph.initializer.extend(lowering.constants.values())
    drop_unused(model.graph)
    return bytes(model.SerializeToString(deterministic=True))


def _with_opset(data: bytes, wanted: int) -> bytes:
    model = onnx.load_model_from_string(data)
    if any(entry.version >= wanted for entry in model.opset_import if entry.domain in ("", "ai.onnx")):
        return data
    return bytes(onnx.version_converter.convert_version(model, wanted).SerializeToString())


class _Lowering:
    """Rewrites nodes one after the other; a value that is needed in both precisions is cast once."""

    def __init__(self, model: onnx.ModelProto, low: int) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._low, self._suffix = low, f"/{TensorProto.DataType.Name(low).lower()}"
        self._types = element_types(model)
        self._initial = {tensor.name: tensor for tensor in model.graph.initializer}
        self._in_low: set[str] = set()
        self._in_float = {name for name, kind in self._types.items() if kind == TensorProto.FLOAT}
        self._in_float -= {name for node in model.graph.node for name in node.output}

    def add(self, node: Any, *, low: bool) -> None:
        """Takes one node, in 16 bits if it has to do with floating point at all."""
        floats = [name for name in (*node.input, *node.output) if self._types.get(name) == TensorProto.FLOAT]
        new = onnx.NodeProto()
        new.CopyFrom(node)
        for place, name in enumerate(node.input):
            if name in floats:
                new.input[place] = self.as_low(name) if low else self.as_float(name)
        for place, name in enumerate(node.output):
            if name in floats:
                new.output[place] = name + self._suffix if low else name
                (self._in_low if low else self._in_float).add(name)
        self.nodes.append(new)

    def as_low(self, name: str) -> str:
        """The name of a value in 16 bits."""
        low = name + self._suffix
        if name in self._in_low:
            return low
        self._in_low.add(name)
        if name in self._initial:
            with np.errstate(over="ignore"):
                values = numpy_helper.to_array(self._initial[name]).astype(helper.tensor_dtype_to_np_dtype(self._low))
            self.constants[low] = numpy_helper.from_array(values, low)
        else:
            self.nodes.append(helper.make_node("Cast", [name], [low], name=f"{low}/cast", to=self._low))
        return low

    def as_float(self, name: str) -> str:
        """The name of a value in float32."""
        if name in self._in_low and name not in self._in_float:
            self._in_float.add(name)
            low = name + self._suffix
            self.nodes.append(helper.make_node("Cast", [low], [name], name=f"{name}/cast", to=TensorProto.FLOAT))
        return name
