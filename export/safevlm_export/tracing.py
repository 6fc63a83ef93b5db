"""Exporting whatever has a tower: by `torch.export`, or where it cannot, with the tower traced on one image.

The towers of Qwen-VL, GLM-4V, Pixtral, Mistral 3, Gemma 4 and Llama 3.2 Vision ask in Python how many patches an
image has, which `torch.export` refuses. On the gate's view, a square of one size, the answer is always the same: the
older exporter of PyTorch runs such a tower once, on one image, and keeps the answers as constants.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import onnx
import torch
from torch import Tensor

from safevlm_export.graphs import Source
from safevlm_export.joining import joined
from safevlm_export.sharing import shared
from safevlm_export.to_onnx import MIN_OPSET, captured, check_opset, export_onnx, reason, serialised, tidy
from safevlm_sdk.errors import ExportError
from safevlm_sdk.manifest import TensorSpec
from safevlm_training.quiet import quiet

TRACER_MAX_OPSET = 20
BATCH = "batch"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnnxGraph:
    """A graph that was exported.

    Attributes:
        source: What it was made of, with the inputs and outputs that it has.
        data: A serialised ModelProto.
        exporter: What made it.
    """

    source: Source
    data: bytes
    exporter: Literal["torch.export", "tracer"]

    @property
    def notes(self) -> tuple[str, ...]:
        """For reports."""
        if self.exporter == "torch.export":
            return ()
        return ("torch.export cannot export its tower; it was traced, and takes one image at a time",)


def export_graph(source: Source, *, identity: dict[str, str], opset: int = MIN_OPSET) -> OnnxGraph:
    """Exports one graph, with a traced tower where there is no other way; such a graph takes one image at a time.

    Args:
        source: The module with its interface; dimensions that have a name vary.
        identity: Kept in the graph's metadata as canonical JSON under the key `safevlm`.
        opset: ONNX operator set.

    Raises:
        ExportError: The module cannot be exported, or the graph is not valid or too large for one file.
    """
    check_opset(opset)
    try:
        return OnnxGraph(
            source=source, data=export_onnx(source, identity=identity, opset=opset), exporter="torch.export"
        )
    except ExportError as problem:
        if source.in_two is None:
            raise
        first = problem
    try:
        alone, model = traced(source, opset)
    except ExportError as problem:
        raise ExportError(f"{first}; and with a traced tower: {problem}") from problem
    tidy(model, identity)
    return OnnxGraph(source=alone, data=serialised(model, source.role), exporter="tracer")


def traced(source: Source, opset: int) -> tuple[Source, onnx.ModelProto]:
    """The source for one image, and its graph: the tower by the tracer, what comes after it by `torch.export`.

    Raises:
        ExportError: There is no tower, or it cannot be traced; or the opset is newer than the tracer.
    """
    if source.in_two is None:
        raise ExportError(f"{source.role}: has no tower to trace")
    if opset > TRACER_MAX_OPSET:
        raise ExportError(f"the tracer writes opset {MIN_OPSET} to {TRACER_MAX_OPSET}, not {opset}")
    tower, rest = source.in_two
    model = _trace(one_image(tower), opset)
    if rest is not None:
        after = captured(one_image(rest), opset)
        model = joined(model, after, through=rest.inputs[0].name, keep=True)
    return one_image(source), shared(model) if source.repeats else model


def one_image(source: Source) -> Source:
    """The same source for a batch of one."""
    return replace(
        source,
        examples=tuple(example[:1] for example in source.examples),
        inputs=tuple(_alone(spec) for spec in source.inputs),
        outputs=tuple(_alone(spec) for spec in source.outputs),
    )


def _alone(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(
        name=spec.name, dtype=spec.dtype, shape=tuple(1 if size == BATCH else size for size in spec.shape)
    )


def _trace(source: Source, opset: int) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory(prefix="safevlm-") as folder, quiet(), torch.inference_mode():
        path = Path(folder, "tower.onnx")
        try:
            torch.onnx.export(
                source.module,
                tuple(_noise(example) for example in source.examples),
                path,
                dynamo=False,
                opset_version=opset,
                input_names=[spec.name for spec in source.inputs],
                output_names=[spec.name for spec in source.outputs],
            )
        except Exception as problem:
            raise ExportError(f"{source.role}: PyTorch cannot trace this model ({reason(problem)})") from problem
        return onnx.load(path)


def _noise(example: Tensor) -> Tensor:
    """Some towers take an image of nothing but zeros for no image."""
    return torch.rand(example.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
