"""Graphs whose weights are stored in 8 or 4 bits; everything is computed in float32. They are small, not fast."""

from __future__ import annotations

from typing import Literal

import onnx

from safevlm_export.precision.anatomy import head_nodes, typed
from safevlm_export.precision.silence import silent
from safevlm_sdk.errors import ExportError

BITS = {"w8": 8, "w4": 4}
BLOCK = 32
_OPERATOR = "MatMulNBits"


def to_weights_only(data: bytes, kind: Literal["w8", "w4"], *, head_from: str | None) -> bytes:
    """The graph with the weights of its tower's matrix products in blocks of 32, each with a scale of its own.

    Args:
        data: A float32 graph.
        kind: Which.
        head_from: The value behind which everything stays as it is.

    Raises:
        ExportError: The tower has no matrix product with constant weights: it is made of convolutions.
    """
    model = typed(data)
    with silent():
        try:
            from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
        except ImportError as problem:
            raise ExportError(f"{kind}: needs onnxruntime 1.22 or newer; pip install -U onnxruntime") from problem
        quantizer = MatMulNBitsQuantizer(
            model,
            bits=BITS[kind],
            block_size=BLOCK,
            is_symmetric=True,
            nodes_to_exclude=sorted(head_nodes(model, head_from)),
        )
        quantizer.process()
    result: onnx.ModelProto = quantizer.model.model
    if not any(node.op_type == _OPERATOR for node in result.graph.node):
        raise ExportError(
            f"{kind}: the tower has no matrix product with constant weights, only convolutions; leave {kind} out of "
            "--precision"
        )
    del result.graph.value_info[:]
    return bytes(result.SerializeToString(deterministic=True))
