"""What a graph of 16-bit floating point would give: the same graph in float32, with every value rounded.

ONNX Runtime's CPU refuses bf16, and runs most of fp16 in float32 without rounding in between: 1000 * 300 / 1000 is
300 there, and infinite on a GPU. A proof on such a run would prove nothing.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from safevlm_export.precision.anatomy import element_types, replace_nodes, typed

HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def emulation(data: bytes) -> bytes:
    """A float32 graph that rounds each 16-bit value of `data` as such hardware would store it.

    Sums inside one operator are float32 here, as in the accumulators of matrix units.
    """
    model = typed(data)
    halves = {name: kind for name, kind in element_types(model).items() if kind in HALVES}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Cast":
            nodes += _cast(node, halves)
            continue
        new = onnx.NodeProto()
        new.CopyFrom(node)
        rounded = []
        for place, name in enumerate(node.output):
            if name in halves:
                new.output[place] = f"{name}/exact"
                rounded += _round(f"{name}/exact", name, halves[name])
        nodes += [new, *rounded]
    for tensor in model.graph.initializer:
        if tensor.name in halves:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    replace_nodes(model.graph, nodes)
    return bytes(model.SerializeToString(deterministic=True))


def _cast(node: onnx.NodeProto, halves: dict[str, int]) -> list[onnx.NodeProto]:
    """A cast to 16 bits rounds; one from 16 bits has nothing left to do."""
    (source,), (result,) = node.input, node.output
    if result in halves:
        return _round(source, result, halves[result])
    if source in halves and helper.get_node_attr_value(node, "to") == TensorProto.FLOAT:
        return [helper.make_node("Identity", [source], [result], name=node.name)]
    return [node]


def _round(source: str, result: str, kind: int) -> list[onnx.NodeProto]:
    stored = f"{result}/stored"
    return [
        helper.make_node("Cast", [source], [stored], name=f"{stored}/cast", to=kind),
        helper.make_node("Cast", [stored], [result], name=f"{result}/cast", to=TensorProto.FLOAT),
    ]
