"""Lowered graphs: what is inside them, and that ONNX Runtime computes what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from safevlm_export.precision.anatomy import element_types, head_nodes, tower_layers, typed
from safevlm_export.precision.calibration import measured_ranges
from safevlm_export.precision.half import HALF_OPS, to_half
from safevlm_export.precision.int8 import quantized_layers, to_int8
from safevlm_export.precision.rounded import emulation
from safevlm_export.precision.weights_only import to_weights_only
from safevlm_export.proof_images import synthetic_images
from safevlm_runtime.bundle.onnx_guard import check_onnx
from safevlm_sdk.errors import ExportError
from safevlm_sdk.preprocess import preprocess

Cases = Callable[[str], Any]
FEATURES = "features"


@pytest.fixture(scope="module")
def vit(case_of: Cases) -> bytes:
    return (case_of("vit-edge").bundle / "graphs" / "gate.fp32.onnx").read_bytes()


@pytest.fixture(scope="module")
def pixels(case_of: Cases) -> np.ndarray:
    spec = case_of("vit-edge").model.config.preprocessing
    return np.stack([preprocess(raster, spec) for _, raster in synthetic_images()])


@pytest.fixture(scope="module")
def ranges(vit: bytes, pixels: np.ndarray) -> Any:
    return measured_ranges(typed(vit), ({"pixel_values": row[None]} for row in pixels))


def run(data: bytes, *, optimized: bool = True, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = 1
    if not optimized:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def error(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], name: str) -> float:
    return float(np.abs(found[name] - wanted[name]).max())


@pytest.mark.parametrize(("kind", "element"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_half_precision_is_in_the_tower_alone_and_not_in_its_norms(vit: bytes, kind: Any, element: int) -> None:
    data = to_half(vit, kind, head_from=FEATURES)
    onnx.checker.check_model(data, full_check=True)
    check_onnx(data, where=kind)
    model = typed(data)
    types, head = element_types(model), head_nodes(model, FEATURES)
    low = {node.op_type for node in model.graph.node if any(types.get(name) == element for name in node.output)}
    assert {"MatMul", "Conv", "Add"} <= low <= HALF_OPS | {"Cast"}
    assert {"LayerNormalization", "Softmax"} <= {node.op_type for node in model.graph.node} - low
    assert not any(
        types.get(name) == element for node in model.graph.node if node.name in head for name in node.output
    )
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    assert len(data) < 0.75 * len(vit)


@pytest.mark.parametrize(("kind", "least", "most"), [("fp16", 1e-5, 5e-3), ("bf16", 1e-4, 5e-2)])
def test_an_emulation_rounds_as_its_precision_does(
    vit: bytes, pixels: np.ndarray, kind: Any, least: float, most: float
) -> None:
    exact = run(vit, pixel_values=pixels)
    rounded = run(emulation(to_half(vit, kind, head_from=FEATURES)), pixel_values=pixels)
    assert least < error(rounded, exact, FEATURES) < most


def product(factor: float) -> bytes:
    """y = (x * factor) / factor."""
    value = helper.make_tensor_value_info
    constant = numpy_helper.from_array(np.array(factor, dtype=np.float32), "factor")
    nodes = [helper.make_node("Mul", ["x", "factor"], ["z"]), helper.make_node("Div", ["z", "factor"], ["y"])]
    shape = (TensorProto.FLOAT, ["n"])
    graph = helper.make_graph(nodes, "product", [value("x", *shape)], [value("y", *shape)], [constant])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def test_an_emulation_overflows_where_onnx_runtime_itself_does_not() -> None:
    x = np.array([1.0, 1000.0], dtype=np.float32)
    fp16 = to_half(product(300.0), "fp16", head_from=None)
    assert np.isfinite(run(fp16, x=x)["y"]).all()
    found = run(emulation(fp16), x=x)["y"]
    assert (found[0], np.isinf(found[1])) == (1.0, True)
    assert np.isfinite(run(emulation(to_half(product(300.0), "bf16", head_from=None)), x=x)["y"]).all()


def test_int8_for_processors_is_unsigned_by_signed_and_leaves_the_head_alone(
    vit: bytes, pixels: np.ndarray, ranges: Any
) -> None:
    data = to_int8(typed(vit), ranges, head_from=FEATURES, target="cpu")
    onnx.checker.check_model(data)
    check_onnx(data, where="int8")
    model = typed(data)
    layers = quantized_layers(typed(vit), FEATURES)
    assert len(layers) == 12
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    producer = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        fed = [producer[name] for name in node.input if name in producer]
        quantized = [one for one in fed if one.op_type == "DequantizeLinear"]
        assert len(quantized) == (2 if node.name in layers else 0) or node.op_type == "DequantizeLinear", node.name
        if node.name in layers:
            activation, weight = quantized
            assert constants[weight.input[0]].dtype == np.int8
            assert constants[weight.input[1]].size > 1, "a scale for each channel"
            assert constants[activation.input[2]].dtype == np.uint8
    exact, found = run(vit, pixel_values=pixels), run(data, pixel_values=pixels)
    assert 1e-6 < error(found, exact, FEATURES) < 0.05
    assert not {node.op_type for node in model.graph.node} & {"DynamicQuantizeLinear", "MatMulInteger"}


def test_a_neighbour_in_the_batch_changes_nothing(vit: bytes, pixels: np.ndarray, ranges: Any) -> None:
    data = to_int8(typed(vit), ranges, head_from=FEATURES, target="cpu")
    alone = run(data, pixel_values=pixels[:1])
    beside = run(data, pixel_values=np.stack([pixels[0], np.full_like(pixels[0], 1e4)]))
    np.testing.assert_allclose(beside["type_logits"][:1], alone["type_logits"], atol=1e-5)


def test_int8_for_tensorrt_is_symmetric_and_without_quantized_biases(
    vit: bytes, pixels: np.ndarray, ranges: Any
) -> None:
    data = to_int8(typed(vit), ranges, head_from=FEATURES, target="tensorrt")
    model = typed(data)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scaled = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for node in scaled:
        zero = constants[node.input[2]]
        assert zero.dtype == np.int8, "no uint8 activations, and no int32 biases"
        assert not zero.any()
    assert len(scaled) > 20
    assert error(run(data, pixel_values=pixels), run(vit, pixel_values=pixels), FEATURES) < 0.05


@pytest.mark.parametrize("kind", ["w8", "w4"])
def test_weights_alone_make_a_graph_small(vit: bytes, pixels: np.ndarray, kind: Any) -> None:
    data = to_weights_only(vit, kind, head_from=FEATURES)
    check_onnx(data, where=kind)
    counted = [node.op_type for node in onnx.load_from_string(data).graph.node]
    assert counted.count("MatMulNBits") == 12
    assert 1e-6 < error(run(data, pixel_values=pixels), run(vit, pixel_values=pixels), FEATURES) < 0.1


def convolutions() -> bytes:
    """Three convolutions, the second of which has each channel to itself, as graphs for phones have them."""
    rng = np.random.default_rng(0)
    weights = {
        "tower.a.weight": rng.normal(size=(8, 3, 3, 3)) * 0.3,
        "tower.b.weight": rng.normal(size=(8, 1, 3, 3)) * (0.01 + 2.0 * np.eye(8)[5][:, None, None, None]),
        "tower.c.weight": rng.normal(size=(4, 8, 1, 1)),
    }
    constants = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()]
    constants += [numpy_helper.from_array(np.array(value, np.float32), f"{value:g}") for value in (0, 6)]
    nodes = [
        helper.make_node("Conv", ["pixel_values", "tower.a.weight"], ["a"], pads=[1] * 4),
        helper.make_node("Clip", ["a", "0", "6"], ["relu"]),
        helper.make_node("Conv", ["relu", "tower.b.weight"], ["b"], pads=[1] * 4, group=8),
        helper.make_node("Conv", ["b", "tower.c.weight"], ["features"]),
    ]
    value = helper.make_tensor_value_info
    given = [value("pixel_values", TensorProto.FLOAT, ["batch", 3, 8, 8])]
    graph = helper.make_graph(
        nodes, "g", given, [value("features", TensorProto.FLOAT, ["batch", 4, 8, 8])], constants
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def test_an_excluded_convolution_stays_float32_in_onnx_runtime_too() -> None:
    data, rng = convolutions(), np.random.default_rng(1)
    model = typed(data)
    pixels = rng.normal(size=(8, 3, 8, 8)).astype(np.float32)
    ranges = measured_ranges(model, ({"pixel_values": row[None]} for row in pixels))
    names = {named: layer for layer, named in tower_layers(model, ()).items()}
    assert list(names) == ["tower.a", "tower.b", "tower.c"]
    lowered = to_int8(model, ranges, head_from=None, target="cpu", excluded=[names["tower.b"]])
    fast, plain = (run(lowered, optimized=optimized, pixel_values=pixels) for optimized in (True, False))
    exact = run(data, pixel_values=pixels)
    off = error(plain, exact, FEATURES)
    assert off > 0.001
    assert error(fast, plain, FEATURES) < 0.5 * off


def test_a_tower_of_convolutions_has_no_weights_to_store_in_blocks() -> None:
    with pytest.raises(ExportError, match="leave w8 out of --precision"):
        to_weights_only(convolutions(), "w8", head_from=None)


def test_no_lowering_writes_beside_its_result(vit: bytes, ranges: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    to_int8(typed(vit), ranges, head_from=FEATURES, target="cpu")
    to_weights_only(vit, "w4", head_from=FEATURES)
    assert list(tmp_path.iterdir()) == []
