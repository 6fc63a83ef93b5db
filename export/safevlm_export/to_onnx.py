"""From a module to the bytes of one self-contained ONNX graph; equal modules give equal bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import onnx
import onnx.inliner
import torch
from onnxscript import opset18

from safevlm_export.graphs import Source
from safevlm_export.sharing import shared
from safevlm_sdk.errors import ExportError
from safevlm_sdk.strict import canonical_json
from safevlm_sdk.version import __version__
from safevlm_training.quiet import quiet

MIN_OPSET = 18
MAX_BYTES = 2**31 - 1
METADATA_KEY = "safevlm"


def export_onnx(source: Source, *, identity: dict[str, str], opset: int = MIN_OPSET) -> bytes:
    """Exports one graph.

    Args:
        source: The module with its interface; dimensions that have a name vary.
        identity: Kept in the graph's metadata as canonical JSON under the key `safevlm`.
        opset: ONNX operator set.

    Returns:
        A serialised ModelProto without external data, without names of files, modules or moments.

    Raises:
        ExportError: The module cannot be exported, or the graph is not valid or too large for one file.
    """
    check_opset(opset)
    model = captured(source, opset)
    model = shared(model) if source.repeats else model
    tidy(model, identity)
    return serialised(model, source.role)


def serialised(model: onnx.ModelProto, role: str, *, full_check: bool = True) -> bytes:
    """The bytes of a checked graph.

    Args:
        model: Without external data.
        role: For messages.
        full_check: Infer every shape, too, which graphs of other exporters need not pass.

    Raises:
        ExportError: It is not valid, or too large for one file.
    """
    try:
        data: bytes = model.SerializeToString(deterministic=True)
    except ValueError as problem:
        raise _too_large(role, model.ByteSize()) from problem
    if len(data) > MAX_BYTES:
        raise _too_large(role, len(data))
    try:
        onnx.checker.check_model(data, full_check=full_check)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as problem:
        raise ExportError(f"{role}: the exported graph is not valid ONNX ({problem})") from problem
    return data


def check_opset(opset: int) -> None:
    """Refuses what the exporter cannot write.

    Raises:
        ExportError: With the versions that it can.
    """
    newest = onnx.defs.onnx_opset_version()
    if not MIN_OPSET <= opset <= newest:
        raise ExportError(f"opset is {opset}; the exporter and the installed onnx write {MIN_OPSET} to {newest}")


def captured(source: Source, opset: int) -> onnx.ModelProto:
    """What `torch.export` makes of a source.

    Raises:
        ExportError: It cannot; the message has the reason.
    """
    with quiet(), torch.inference_mode():
        try:
            program = torch.onnx.export(
                source.module,
                source.examples,
                dynamo=True,
                opset_version=opset,
                input_names=[spec.name for spec in source.inputs],
                output_names=[spec.name for spec in source.outputs],
                dynamic_shapes=_dynamic_shapes(source),
                external_data=False,
                custom_translation_table={torch.ops.aten.log_sigmoid.default: _log_sigmoid},
                verbose=False,
            )
        except Exception as problem:
            raise ExportError(
                f"{source.role}: PyTorch cannot export this model to ONNX ({reason(problem)})"
            ) from problem
    if program is None:
        raise ExportError(f"{source.role}: PyTorch gave no ONNX program; check the installed torch and onnxscript")
    return program.model_proto


def reason(problem: BaseException) -> str:
    """The first line of what an exporter's error was caused by."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]


def _log_sigmoid(x: Any) -> Any:
    """Finite for every finite x; the exporter's own Log(Sigmoid(x)) is -inf below about -18 in ONNX Runtime."""
    return opset18.Neg(opset18.Softplus(opset18.Neg(x)))


def _dynamic_shapes(source: Source) -> tuple[dict[int, Any], ...]:
    names = {size for spec in source.inputs for size in spec.shape if isinstance(size, str)}
    dims = {name: torch.export.Dim(name, min=1, max=2**20) for name in sorted(names)}
    return tuple(
        {axis: dims[size] for axis, size in enumerate(spec.shape) if isinstance(size, str)} for spec in source.inputs
    )


def tidy(model: onnx.ModelProto, identity: dict[str, str]) -> None:
    """Removes what depends on the machine (stack traces, paths) and names producer and identity."""
    if model.functions:
        model.CopyFrom(onnx.inliner.inline_local_functions(model))
    model.producer_name, model.producer_version = "safevlm-export", __version__
    model.domain, model.doc_string = "", ""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: canonical_json(identity).decode()})
    _tidy_graph(model.graph)


def _tidy_graph(graph: onnx.GraphProto) -> None:
    del graph.value_info[:]
    _strip([graph, *graph.input, *graph.output, *graph.initializer, *graph.node])
    for node in graph.node:
        for attribute in node.attribute:
            attribute.doc_string = ""
            _strip([attribute.t] if attribute.HasField("t") else attribute.tensors)
            for below in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                _tidy_graph(below)


def _strip(messages: Iterable[Any] | Sequence[Any]) -> None:
    for message in messages:
        message.doc_string = ""
        del message.metadata_props[:]


def _too_large(role: str, size: int) -> ExportError:
    return ExportError(f"{role}: the graph has {size} bytes; one ONNX file holds {MAX_BYTES}: use a smaller tower")
