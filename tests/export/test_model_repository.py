"""A bundle as a model repository, read back with protobuf as the server reads it and compared with the graphs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import numpy as np
import onnxruntime
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from safevlm_export.model_repository import DATA_TYPES, model_config, write_model_repository
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_sdk.errors import ExportError
from safevlm_sdk.manifest import TensorSpec
from safevlm_sdk.strict import digest

# Of `inference.ModelConfig` in Triton's model_config.proto, every field that is written: number, kind, repeated.
STRING, INT32, INT64, UINT64, MESSAGE, ENUM = 9, 5, 3, 4, 11, 14
FIELDS: dict[str, dict[str, tuple[int, int, bool, str | None]]] = {
    "ModelParameter": {"string_value": (1, STRING, False, None)},
    "ModelInput": {
        "name": (1, STRING, False, None),
        "data_type": (2, ENUM, False, "DataType"),
        "dims": (4, INT64, True, None),
    },
    "ModelOutput": {
        "name": (1, STRING, False, None),
        "data_type": (2, ENUM, False, "DataType"),
        "dims": (3, INT64, True, None),
    },
    "ModelDynamicBatching": {
        "preferred_batch_size": (1, INT32, True, None),
        "max_queue_delay_microseconds": (2, UINT64, False, None),
    },
    "ModelConfig": {
        "name": (1, STRING, False, None),
        "platform": (2, STRING, False, None),
        "max_batch_size": (4, INT32, False, None),
        "input": (5, MESSAGE, True, "ModelInput"),
        "output": (6, MESSAGE, True, "ModelOutput"),
        "default_model_filename": (8, STRING, False, None),
        "dynamic_batching": (11, MESSAGE, False, "ModelDynamicBatching"),
        "parameters": (14, MESSAGE, True, "ModelConfig.ParametersEntry"),
    },
}
NUMPY = {
    "TYPE_BOOL": (1, np.bool_), "TYPE_UINT8": (2, np.uint8), "TYPE_INT64": (9, np.int64),
    "TYPE_FP16": (10, np.float16), "TYPE_FP32": (11, np.float32),
}  # fmt: skip
ORT = {"tensor(float)": "TYPE_FP32", "tensor(bool)": "TYPE_BOOL"}


def _add_fields(message: Any, fields: dict[str, tuple[int, int, bool, str | None]]) -> None:
    for name, (number, kind, repeated, of) in fields.items():
        field = message.field.add(name=name, number=number, type=kind, label=3 if repeated else 1)
        if of is not None:
            field.type_name = f".inference.{of}"


@pytest.fixture(scope="module")
def parse() -> Any:
    """Reads config.pbtxt; an unknown field, a wrong type or a repeated single field is an error."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    types = file.enum_type.add(name="DataType")
    types.value.add(name="TYPE_INVALID", number=0)
    for name, (number, _) in NUMPY.items():
        types.value.add(name=name, number=number)
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        if name == "ModelConfig":
            entry = message.nested_type.add(name="ParametersEntry")
            entry.options.map_entry = True
            _add_fields(entry, {"key": (1, STRING, False, None), "value": (2, MESSAGE, False, "ModelParameter")})
        _add_fields(message, fields)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    config = message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))
    return lambda text: text_format.Parse(text, config())


def name_of(config: Any, tensor: Any) -> str:
    return config.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number[tensor.data_type].name


def test_every_graph_becomes_a_model_that_fits_its_config(bundle: Path, tmp_path: Path, parse: Any) -> None:
    read = read_bundle(bundle)
    written = write_model_repository(read, tmp_path / "models")
    assert written.models == ("colours-gate-fp32", "colours-safety_head-fp32")
    for model, graph in zip(written.models, read.manifest.graphs, strict=True):
        place = tmp_path / "models" / model
        config = parse((place / "config.pbtxt").read_text())
        assert (config.name, config.platform) == (model, "onnxruntime_onnx")
        assert config.dynamic_batching.max_queue_delay_microseconds > 0
        assert config.parameters["safevlm_bundle_digest"].string_value == read.manifest.digest
        data = (place / "1" / config.default_model_filename).read_bytes()
        assert config.parameters["safevlm_graph_digest"].string_value == digest(data)
        assert data == read.graphs[graph.id]
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        for stated, found in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
            nodes = {node.name: node for node in found}
            assert [tensor.name for tensor in stated] == list(nodes)
            for tensor in stated:
                node = nodes[tensor.name]
                assert isinstance(node.shape[0], str)
                assert list(tensor.dims) == [-1 if isinstance(size, str) else size for size in node.shape[1:]]
                assert name_of(config, tensor) == ORT[node.type]
        feeds = {
            tensor.name: np.ones(
                (config.max_batch_size, *(5 if size == -1 else size for size in tensor.dims)),
                NUMPY[name_of(config, tensor)][1],
            )
            for tensor in config.input
        }
        outputs = session.run([tensor.name for tensor in config.output], feeds)
        assert {len(values) for values in outputs} == {config.max_batch_size}


def changed(bundle: Path, **changes: Any) -> Any:
    read = read_bundle(bundle)
    graphs = (msgspec.structs.replace(read.manifest.graphs[0], **changes), *read.manifest.graphs[1:])
    proofs = dict(zip((graph.id for graph in graphs), read.manifest.proof.graphs.values(), strict=True))
    proof = msgspec.structs.replace(read.manifest.proof, graphs=proofs)
    files = {**read.manifest.files, **{changes[name]: "sha256:" + 64 * "0" for name in changes if name == "weights"}}
    return replace(read, manifest=msgspec.structs.replace(read.manifest, graphs=graphs, proof=proof, files=files))


def test_a_graph_of_a_fixed_batch_is_not_batched(bundle: Path, parse: Any) -> None:
    inputs = (TensorSpec(name="pixel_values", dtype="uint8", shape=(1, 3, "height", 16)),)
    read = changed(bundle, inputs=inputs)
    config = parse(model_config(read, read.manifest.graphs[0]))
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [1, 3, -1, 16]
    assert config.output[0].dims[0] == -1
    assert name_of(config, config.input[0]) == "TYPE_UINT8"


@pytest.mark.parametrize("changes", [{"backend": "openvino", "weights": "graphs/gate.bin"}, {"target": "tensorrt"}])
def test_what_the_server_was_not_proven_with_is_left_out(
    bundle: Path, tmp_path: Path, changes: dict[str, str]
) -> None:
    written = write_model_repository(changed(bundle, **changes), tmp_path / "models")
    assert written.left_out == ("gate.fp32",)
    assert "left out, for the server has no platform for them: gate.fp32" in written.render()
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["colours-safety_head-fp32"]


def test_names_are_safe_and_any_text_survives(maker: Any, tmp_path: Path, parse: Any) -> None:
    maker.name = 'a "gate"/../\\ für alle'
    read = read_bundle(maker.write(tmp_path / "bundle"))
    written = write_model_repository(read, tmp_path / "models")
    assert written.models[0] == "a-gate-f-r-alle-gate-fp32"
    named = TensorSpec(name='odd "näme"\\\n', dtype="float32", shape=("batch", 4))
    outputs = (*read.manifest.graphs[0].outputs, named)
    graph = msgspec.structs.replace(read.manifest.graphs[0], outputs=outputs)
    assert parse(model_config(read, graph)).output[-1].name == named.name


def test_a_later_export_replaces_its_models_and_nobody_elses(bundle: Path, maker: Any, tmp_path: Path) -> None:
    models = tmp_path / "models"
    (models / "resnet" / "1").mkdir(parents=True)
    (models / "resnet" / "config.pbtxt").write_text('name: "resnet"')
    write_model_repository(read_bundle(bundle), models)
    maker.thresholds = 0.7
    second = read_bundle(maker.write(tmp_path / "second"))
    written = write_model_repository(second, models)
    assert second.manifest.digest in (models / written.models[0] / "config.pbtxt").read_text()
    assert (models / "resnet" / "config.pbtxt").read_text() == 'name: "resnet"'
    assert {path.name for path in models.iterdir()} == {"resnet", *written.models}
    (models / written.models[1] / "notes.txt").write_text("mine")
    before = (models / written.models[0] / "config.pbtxt").read_text()
    with pytest.raises(ExportError, match="holds other files"):
        write_model_repository(read_bundle(bundle), models)
    assert (models / written.models[0] / "config.pbtxt").read_text() == before


def test_two_graphs_of_one_name_are_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="a name of its own"):
        write_model_repository(changed(bundle, id="safety_head/fp32"), tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_every_dtype_of_a_manifest_has_a_type() -> None:
    assert set(get_args(get_type_hints(TensorSpec)["dtype"])) == set(DATA_TYPES)
    assert set(DATA_TYPES.values()) == set(NUMPY)
