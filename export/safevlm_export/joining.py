"""Two graphs as one: the first gives what the second takes."""

from __future__ import annotations

import onnx
import onnx.compose

from safevlm_sdk.errors import ExportError

FIRST = "first/"  # before every name inside the first graph, which thus meets none of the second


def joined(first: onnx.ModelProto, second: onnx.ModelProto, *, through: str, keep: bool) -> onnx.ModelProto:
    """One graph with the input of the first and the outputs of the second.

    Args:
        first: Gives `through`, and perhaps more.
        second: Takes `through` and nothing else.
        through: The tensor's name in both.
        keep: Give the outputs of the first as well, behind those of the second.

    Raises:
        ExportError: They do not fit.
    """
    first = onnx.compose.add_prefix(first, FIRST, rename_inputs=False, rename_outputs=False)
    outputs = [*second.graph.output, *(first.graph.output if keep else ())]
    first.ir_version = second.ir_version = max(first.ir_version, second.ir_version)
    try:
        model = onnx.compose.merge_models(first, second, io_map=[(through, through)])
    except (ValueError, onnx.checker.ValidationError) as problem:
        raise ExportError(f"two graphs cannot be joined through {through} ({problem})") from problem
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    return model
