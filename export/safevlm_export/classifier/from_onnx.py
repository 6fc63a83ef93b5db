"""An ONNX file that is an image classifier, and that nobody vouches for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from safevlm_export.classifier.label_map import LabelMap, check_labels
from safevlm_export.classifier.original import InputForm, Tensor
from safevlm_runtime.bundle.onnx_guard import check_onnx
from safevlm_sdk.errors import BundleGraph, ExportError, LabelMapError
from safevlm_sdk.preprocess import Preprocessing
from safevlm_sdk.strict import digest

REMEDY = "export the model as one self-contained file of standard operators"
BATCH = 2
_ERRORS_ONLY = 3


class OnnxOriginal:
    """The file as it is, in ONNX Runtime on the CPU.

    Args:
        path: The file; read once.
        found: The map.
        where: The map's name in messages.

    Raises:
        LabelMapError: The map does not fit the model.
        ExportError: The model is none that a bundle may hold, or is not of the form image to labels.
    """

    engine = "ONNX Runtime"

    def __init__(self, path: Path, found: LabelMap, where: str) -> None:
        data = _read(path)
        self.name, self.digest = path.name, digest(data)
        if found.model.sha256 not in (None, self.digest):
            raise ExportError(
                f"{path}: its digest is {self.digest}, but {where} is for {found.model.sha256}: get that"
            )
        self.labels, self.preprocessing = _stated(found, where)
        check_labels(found, self.labels, where)
        self._model, self._session = _open(data, path)
        self.form = _form(self._model, found, len(self.labels), path)
        self._try(path)

    def run(self, pixels: Tensor) -> Tensor:
        """See `Original.run`."""
        outputs: Tensor = self._outputs(self.form.of(pixels))[0]
        return outputs

    def model(self) -> onnx.ModelProto:
        """See `Original.model`."""
        return self._model

    def _outputs(self, values: Tensor) -> Tensor:
        try:
            outputs: Tensor = self._session.run([self.form.output], {self.form.input: values})[0]
        except Exception as problem:  # ONNX Runtime raises types of its own for each status
            reason = (str(problem).splitlines() or [type(problem).__name__])[0][:200]
            raise ExportError(f"{self.name}: does not run on an input of {values.shape}: {reason}") from problem
        wanted = (len(values), len(self.labels))
        if outputs.shape != wanted:
            raise LabelMapError(
                f"{self.name}: an input of {values.shape} gives an output of {outputs.shape}, but {wanted} is "
                "wanted: one number per image and label of [model] labels; correct them, or choose another output"
            )
        return outputs

    def _try(self, path: Path) -> None:
        """Runs an empty image alone, and several where the graph leaves their number open."""
        self._outputs(np.zeros((1, *self.form.shape), dtype=np.float32))
        if self.form.batch is None:
            try:
                self._outputs(np.zeros((BATCH, *self.form.shape), dtype=np.float32))
            except ExportError as problem:
                raise ExportError(
                    f"{path}: claims to take any number of images, but takes one alone ({problem}); fix its batch "
                    "to 1 and try again (onnxruntime.tools.make_dynamic_shape_fixed)"
                ) from problem


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise ExportError(f"{path}: cannot be read ({problem.strerror})") from problem
    try:
        check_onnx(data, where=str(path), remedy=REMEDY)
    except BundleGraph as problem:
        raise ExportError(str(problem)) from problem
    return data


def _stated(found: LabelMap, where: str) -> tuple[tuple[str, ...], Preprocessing]:
    """What an ONNX file does not say of itself."""
    if found.model.labels is None:
        raise LabelMapError(f"{where}: [model] needs `labels`, the model's output labels in their order")
    if found.preprocessing is None:
        raise LabelMapError(f"{where}: needs [preprocessing]; an ONNX file does not say how its input is made")
    if found.model.revision is not None:
        raise LabelMapError(f"{where}: [model] revision is for Hugging Face models; remove it")
    return found.model.labels, found.preprocessing.spec()


def _open(data: bytes, path: Path) -> tuple[onnx.ModelProto, onnxruntime.InferenceSession]:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _ERRORS_ONLY
    try:
        model = onnx.load_model_from_string(data)
        session = onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"])
    except Exception as problem:  # parsers of foreign bytes raise anything
        reason = (str(problem).splitlines() or [type(problem).__name__])[0][:200]
        raise ExportError(f"{path}: ONNX Runtime cannot load it: {reason}") from problem
    return model, session


def _form(model: onnx.ModelProto, found: LabelMap, labels: int, path: Path) -> InputForm:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise ExportError(
            f"{path}: takes {len(inputs)} inputs ({', '.join(value.name for value in inputs)}); a classifier of "
            "images takes one"
        )
    taken, given = inputs[0], _chosen_output(model.graph.output, found.model.output, path)
    section = found.preprocessing
    if section is None:
        raise LabelMapError(f"{path}: the map needs [preprocessing]")
    form = InputForm(
        input=taken.name,
        output=given.name,
        pixels=(section.height, section.width),
        crop=section.crop,
        channels=section.channels,
        layout=section.layout,
        batch=_batch(taken, path),
    )
    _check_shape(taken, "input", (form.batch, *form.shape), path)
    _check_shape(given, "output", (form.batch, labels), path)
    return form


def _chosen_output(values: Sequence[Any], name: str | None, path: Path) -> Any:
    names = [value.name for value in values]
    if name is None and len(values) == 1:
        return values[0]
    if name not in names:
        wish = f"has no output {name!r}" if name is not None else "has several outputs"
        raise LabelMapError(f"{path}: {wish}; set [model] output to one of {', '.join(names)}")
    return values[names.index(name)]


def _batch(value: Any, path: Path) -> int | None:
    dims = value.type.tensor_type.shape.dim
    if not value.type.tensor_type.HasField("shape") or len(dims) != 4:
        raise ExportError(
            f"{path}: input {value.name} has {len(dims) or 'unknown'} dimensions; images have 4: their number, "
            "channels, rows and columns"
        )
    size = dims[0].dim_value if dims[0].HasField("dim_value") else None
    if size is not None and size != 1:
        raise ExportError(
            f"{path}: input {value.name} takes {size} images at a time; a gate takes one, or any number: export the "
            "model with such a batch"
        )
    return size


def _check_shape(value: Any, kind: str, wanted: tuple[int | None, ...], path: Path) -> None:
    """Compares the sizes that the graph states; those that it leaves open become the wanted ones."""
    tensor = value.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        dtype = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise ExportError(f"{path}: {kind} {value.name} is {dtype}; FLOAT (float32) is wanted: export it so")
    if not tensor.HasField("shape"):
        return
    found = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    fits = len(found) == len(wanted) and all(
        has is None or want is None or has == want for has, want in zip(found, wanted, strict=True)
    )
    if not fits:
        said = ["any" if size is None else size for size in found]
        asked = ["any" if size is None else size for size in wanted]
        raise LabelMapError(
            f"{path}: {kind} {value.name} has shape {said}, but the map makes it {asked}; correct "
            f"{'[preprocessing] (size, crop, layout)' if kind == 'input' else '[model] labels'}"
        )
