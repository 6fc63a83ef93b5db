"""The last step of every lowered graph: no traces of its making, and the identity of its original."""

from __future__ import annotations

import json

import onnx

from safevlm_export.to_onnx import METADATA_KEY, serialised, tidy
from safevlm_sdk.manifest import Graph


def finished(data: bytes, original: bytes, graph: Graph) -> bytes:
    """The bytes of a lowered graph.

    Args:
        data: As a lowering left it.
        original: The float32 graph that it was made of.
        graph: Its entry in the manifest.

    Raises:
        ExportError: It is not valid ONNX.
    """
    model = onnx.load_model_from_string(data)
    carried = {entry.key: entry.value for entry in onnx.load_model_from_string(original).metadata_props}
    identity = json.loads(carried.get(METADATA_KEY, "{}"))
    tidy(model, {**identity, "precision": graph.precision, "target": graph.target})
    return serialised(model, graph.id, full_check=False)
