"""Graphs whose layers multiply 8-bit integers, with ranges of activations that were measured before.

The scales are constants. Scales that a graph finds for itself while it runs (dynamic quantization) are of the whole
batch: what else lies in it would change an image's verdict.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from safevlm_export.precision.anatomy import drop_unused, head_nodes, is_convolutional, replace_nodes, tower_layers
from safevlm_export.precision.calibration import ACTIVATIONS, Ranges
from safevlm_export.precision.silence import silent

Target = Literal["cpu", "tensorrt"]
LOWEST = np.array(np.finfo(np.float32).min, dtype=np.float32)
BARRIER = "safevlm/lowest"


def to_int8(
    model: onnx.ModelProto,
    ranges: Ranges,
    *,
    head_from: str | None,
    target: Target,
    excluded: Collection[str] = (),
) -> bytes:
    """The graph with 8-bit integers in the layers of its tower.

    For "cpu": activations unsigned, weights signed with a scale for each output channel; this is what the int8
    kernels of processors are made for, and signed activations are several times slower there. For "tensorrt":
    activations signed and symmetric, biases float32, outputs of layers not quantized, as its parser demands.

    Args:
        model: Float32, from `anatomy.typed`; it stays as it is.
        ranges: From `calibration.measured_ranges`.
        head_from: The value behind which everything stays float32.
        target: What the graph is for.
        excluded: Names of layers that stay float32, too.
    """
    head = head_nodes(model, head_from)
    kinds = _kinds(model, head)
    activations = ACTIVATIONS if target == "cpu" and "Conv" in kinds else ()
    kept = [node.name for node in model.graph.node if node.op_type in activations and node.name not in head]
    chosen = [layer for layer in quantized_layers(model, head_from) if layer not in excluded]
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    quantizer = QDQQuantizer(
        copied,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8 if target == "cpu" else QuantType.QInt8,
        tensors_range=ranges,
        nodes_to_quantize=[*chosen, *kept],
        nodes_to_exclude=[],
        op_types_to_quantize=[*kinds, *activations],
        extra_options=_options(target, kinds),
    )
    with silent():
        quantizer.quantize_model()
    result: onnx.ModelProto = quantizer.model.model
    replace_nodes(result.graph, _with_barriers(result, excluded))
    drop_unused(result.graph)
    return bytes(result.SerializeToString(deterministic=True))


def quantized_layers(model: onnx.ModelProto, head_from: str | None) -> list[str]:
    """Names of the layers that are quantized unless they are excluded."""
    head = head_nodes(model, head_from)
    layers, kinds = tower_layers(model, head), _kinds(model, head)
    return [node.name for node in model.graph.node if node.name in layers and node.op_type in kinds]


def _kinds(model: onnx.ModelProto, head: Collection[str]) -> list[str]:
    """A convolution that only cuts patches reads raw pixels, and costs next to nothing."""
    return ["Conv", "MatMul", "Gemm"] if is_convolutional(model, head) else ["MatMul", "Gemm"]


def _options(target: Target, kinds: Collection[str]) -> dict[str, Any]:
    if target == "cpu":
        return {"WeightSymmetric": True, "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]}
    return {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "OpTypesToExcludeOutputQuantization": list(kinds),
    }


def _with_barriers(model: onnx.ModelProto, excluded: Collection[str]) -> list[Any]:
    """Nodes where an excluded layer is fed through max(x, lowest number), which changes nothing.

    ONNX Runtime quantizes the weights of any convolution that it finds between integers, with one scale for all of
    them: a layer that is kept float32 would be worse than a quantized one. Two layers in a row it leaves alone.
    """
    if not excluded:
        return list(model.graph.node)
    model.graph.initializer.append(numpy_helper.from_array(LOWEST, BARRIER))
    nodes = []
    for node in model.graph.node:
        if node.name in excluded:
            guarded = f"{node.name}/guarded"
            nodes.append(helper.make_node("Max", [node.input[0], BARRIER], [guarded], name=guarded))
            node.input[0] = guarded
        nodes.append(node)
    return nodes
