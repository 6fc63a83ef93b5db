"""Counting what a graph computes and moves, from what ONNX Runtime says it ran."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from safevlm_runtime.bench.result import Operations
from safevlm_sdk.manifest import Graph
from safevlm_sdk.no_telemetry import import_onnxruntime

Shape = Sequence[int]

_CONVOLUTIONS = ("Conv", "ConvInteger", "QLinearConv", "FusedConv")
_PRODUCTS = (
    "MatMul",
    "MatMulInteger",
    "QLinearMatMul",
    "MatMulNBits",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
)
_OTHERS = (
    *("Einsum", "LSTM", "GRU", "RNN", "DeformConv", "MultiHeadAttention", "GroupQueryAttention"),
    *("PackedAttention", "QAttention", "QGemm", "FusedMatMul", "FusedGemm", "SparseToDenseMatMul"),
)
_SILENT = 4


def count_operations(data: bytes, graph: Graph) -> Operations | None:
    """Runs a graph twice on one view of zeros, on the CPU: as it is written, and as ONNX Runtime fuses it.

    Args:
        data: The graph's ONNX bytes.
        graph: What the manifest says of it.

    Returns:
        The counts; None where ONNX Runtime cannot run the graph on a CPU.
    """
    feeds = {
        spec.name: np.zeros([size if isinstance(size, int) else 1 for size in spec.shape], spec.dtype)
        for spec in graph.inputs
    }
    try:
        written, fused = (_nodes_run(data, feeds, optimize=optimize) for optimize in (False, True))
    except Exception:  # whatever ONNX Runtime raises: the gate itself may run elsewhere
        return None
    counts = [(node["op_name"], _multiply_adds(node)) for node in written]
    return Operations(
        graph=graph.id,
        flops=2 * sum(count for _, count in counts if count is not None),
        weight_bytes=sum(int(node["parameter_size"]) for node in fused),
        activation_bytes=sum(int(node["activation_size"]) + int(node["output_size"]) for node in fused),
        not_counted=tuple(sorted({operator for operator, count in counts if count is None})),
    )


def _multiply_adds(node: dict[str, Any]) -> int | None:
    """Multiplications with addition of one node that ran; None where they are not known from its shapes."""
    operator = node["op_name"]
    inputs, outputs = _shapes(node["input_type_shape"]), _shapes(node["output_type_shape"])
    if operator in _CONVOLUTIONS:
        weights = inputs[3] if operator == "QLinearConv" else inputs[1]
        return prod(outputs[0]) * prod(weights[1:])  # [out, in / groups, height, width]
    if operator == "ConvTranspose":
        return prod(inputs[0]) * prod(inputs[1][1:])  # [in, out / groups, height, width]
    if operator in _PRODUCTS:
        return prod(outputs[0]) * inputs[0][-1]
    if operator == "Gemm":
        return prod(inputs[0]) * outputs[0][1]  # whichever of the two is transposed
    if operator == "Attention" and len(inputs[1]) > 2:
        return (prod(inputs[0]) + prod(outputs[0])) * inputs[1][-2]  # queries by keys, weights by values
    return None if operator in (*_OTHERS, "Attention") else 0


def _shapes(listed: Sequence[dict[str, Shape]]) -> list[Shape]:
    """Each tensor is told as {element type: shape}."""
    return [shape for one in listed for shape in one.values()]


def _nodes_run(data: bytes, feeds: dict[str, Any], *, optimize: bool) -> list[dict[str, Any]]:
    """What ONNX Runtime's profile says of each node of one run."""
    onnxruntime = import_onnxruntime()

    levels = onnxruntime.GraphOptimizationLevel
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _SILENT
    settings.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    # A constant that was packed for a kernel is not told among the node's inputs.
    settings.add_session_config_entry("session.disable_prepacking", "1")
    settings.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        settings.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"], enable_fallback=0)
        session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return [
        event["args"] for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    ]
