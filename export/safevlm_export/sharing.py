"""Computing once what a graph computes twice."""

from __future__ import annotations

import onnx
import onnx_ir
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    DeduplicateHashedInitializersPass,
    RemoveUnusedNodesPass,
)

ANY_SIZE = 2**31


def shared(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with equal weights stored once, and with equal operators on equal inputs run once."""
    passes = (
        DeduplicateHashedInitializersPass(size_limit=ANY_SIZE),
        CommonSubexpressionEliminationPass(),
        RemoveUnusedNodesPass(),
    )
    found = onnx_ir.from_proto(model)
    for one in passes:
        found = one(found).model
    result: onnx.ModelProto = onnx_ir.to_proto(found)
    return result
