"""What a graph consists of: its types, its tower and head, and the layers that carry weights."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import onnx

from safevlm_sdk.errors import ExportError

LAYERS = ("Conv", "MatMul", "Gemm")


def typed(data: bytes) -> onnx.ModelProto:
    """The model with the type of every value stated, and a name for every node."""
    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(data), data_prop=True)
    taken = {node.name for node in model.graph.node}
    for number, node in enumerate(model.graph.node):
        if not node.name:
            node.name = next(name for name in (f"node_{number}", f"node_{number}_") if name not in taken)
    return model


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Name of each value and constant to its element type, as `TensorProto` numbers them."""
    graph = model.graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        types.setdefault(value.name, value.type.tensor_type.elem_type)
    return types


def head_nodes(model: onnx.ModelProto, head_from: str | None) -> frozenset[str]:
    """Names of the nodes that depend on a value: the head is behind the tower's features."""
    behind, names = {head_from}, set()
    for node in model.graph.node:
        if behind.intersection(node.input):
            behind.update(node.output)
            names.add(node.name)
    return frozenset(names)


def tower_layers(model: onnx.ModelProto, head: Collection[str]) -> dict[str, str]:
    """Name of each layer of the tower to what it is called in reports: the name of its weights, if they have one."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return {
        node.name: node.input[1].removesuffix(".weight") if "." in node.input[1] else node.name
        for node in model.graph.node
        if node.op_type in LAYERS and node.name not in head and node.input[1] in constants
    }


def is_convolutional(model: onnx.ModelProto, head: Collection[str]) -> bool:
    """Whether most layers of the tower are convolutions; a transformer has one, which cuts the patches."""
    layers = tower_layers(model, head)
    kinds = [node.op_type for node in model.graph.node if node.name in layers]
    return kinds.count("Conv") * 2 > len(kinds)


def replace_nodes(graph: Any, nodes: Collection[Any]) -> None:
    """Gives a graph other nodes, each behind what it reads; values lose their stated types."""
    made = {name for node in nodes for name in node.output}
    waiting, ordered, ready = list(nodes), [], set[str]()
    while waiting:
        blocked = []
        for node in waiting:
            if made.intersection(node.input) <= ready:
                ordered.append(node)
                ready.update(node.output)
            else:
                blocked.append(node)
        if len(blocked) == len(waiting):
            raise ExportError(
                f"the node {blocked[0].name} waits for itself; report it with the version of onnxruntime"
            )
        waiting = blocked
    del graph.node[:], graph.value_info[:]
    graph.node.extend(ordered)


def drop_unused(graph: Any) -> None:
    """Removes constants that nothing reads."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
