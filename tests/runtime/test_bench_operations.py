"""What the benchmark counts in a graph, against counts by hand; and the models that measure the machine."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from safevlm_runtime.bench import ceiling
from safevlm_runtime.bench.ceiling import CPU, CeilingRun, ceiling_provider, gemm_model
from safevlm_runtime.bench.one_node import FLOAT, Constant, one_node
from safevlm_runtime.bench.operations import count_operations


def counted(nodes, inputs, constants, *, opset=17):
    """The counts of a graph whose last node gives `y`."""
    value = helper.make_tensor_value_info
    kinds = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}
    graph = helper.make_graph(
        nodes,
        "test",
        [value(name, kinds[dtype], shape) for name, (dtype, shape) in inputs.items()],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    specs = [SimpleNamespace(name=name, dtype=dtype, shape=shape) for name, (dtype, shape) in inputs.items()]
    return count_operations(model.SerializeToString(), SimpleNamespace(id="test", inputs=specs))


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def node(operator, *inputs, **attributes):
    return helper.make_node(operator, inputs, ["y"], **attributes)


IMAGE = {"x": ("float32", ["batch", 3, 256, 256])}


@pytest.mark.parametrize(
    ("made", "inputs", "constants", "multiply_adds"),
    [
        # EfficientNet-Lite0's first layer on 256 x 256 pixels, and a depthwise one.
        (
            node("Conv", "x", "w", strides=[2, 2], pads=[1, 1, 1, 1]),
            IMAGE,
            {"w": zeros(32, 3, 3, 3)},
            128 * 128 * 32 * 27,
        ),
        (
            node("Conv", "x", "w", group=8, pads=[1, 1, 1, 1]),
            {"x": ("float32", [1, 8, 10, 12])},
            {"w": zeros(8, 1, 3, 3)},
            10 * 12 * 8 * 9,
        ),
        (
            node("ConvTranspose", "x", "w", strides=[2, 2]),
            {"x": ("float32", [1, 4, 5, 6])},
            {"w": zeros(4, 7, 2, 2)},
            5 * 6 * 4 * 7 * 4,
        ),
        (node("MatMul", "x", "w"), {"x": ("float32", ["batch", 197, 768])}, {"w": zeros(768, 100)}, 197 * 768 * 100),
        (node("Gemm", "x", "w", transA=1), {"x": ("float32", [6, 5])}, {"w": zeros(6, 7)}, 5 * 6 * 7),
        (node("Gemm", "x", "w", transB=1), {"x": ("float32", [5, 6])}, {"w": zeros(7, 6)}, 5 * 6 * 7),
        (
            node("MatMulInteger", "x", "w"),
            {"x": ("uint8", [2, 3, 8])},
            {"w": zeros(8, 5, dtype=np.int8)},
            2 * 3 * 8 * 5,
        ),
        (node("Relu", "x"), IMAGE, {}, 0),
    ],
)
def test_each_operator_is_counted_as_by_hand(made, inputs, constants, multiply_adds):
    found = counted([made], inputs, constants)
    assert found.flops == 2 * multiply_adds
    assert found.not_counted == ()


def test_a_block_of_vit_b_has_a_twelfth_of_what_is_published():
    """ViT-B/16 at 224 takes 17.6 billion multiplications with addition: 12 blocks, the patches and the classes."""
    width, tokens, heads = 768, 197, 12
    constants = {
        "qkv": zeros(3, width, width),
        "up": zeros(width, 4 * width),
        "down": zeros(4 * width, width),
        "out": zeros(width, width),
        "heads": np.array([3, tokens, heads, width // heads], np.int64),
        "one": np.array([0], np.int64),
        "thirds": np.array([1, 1, 1], np.int64),
        "flat": np.array([1, tokens, width], np.int64),
    }
    make = helper.make_node
    nodes = [
        make("MatMul", ["x", "qkv"], ["projected"]),  # [3, tokens, width]
        make("Reshape", ["projected", "heads"], ["split"]),
        make("Transpose", ["split"], ["turned"], perm=[0, 2, 1, 3]),
        make("Split", ["turned", "thirds"], ["q", "k", "v"], axis=0),
        make("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        make("MatMul", ["q", "kt"], ["scores"]),
        make("Softmax", ["scores"], ["weights"], axis=-1),
        make("MatMul", ["weights", "v"], ["mixed"]),
        make("Transpose", ["mixed"], ["back"], perm=[0, 2, 1, 3]),
        make("Reshape", ["back", "flat"], ["joined"]),
        make("MatMul", ["joined", "out"], ["attended"]),
        make("MatMul", ["attended", "up"], ["wide"]),
        make("MatMul", ["wide", "down"], ["y"]),
    ]
    found = counted(nodes, {"x": ("float32", [1, tokens, width])}, constants)
    patches, classes = 196 * width * 16 * 16 * 3, width * 1000
    whole = 12 * found.flops // 2 + patches + classes
    assert found.flops // 2 == tokens * 12 * width**2 + 2 * tokens**2 * width
    assert 17.5e9 < whole < 17.65e9
    weights = 4 * 12 * width**2
    assert weights <= found.weight_bytes <= weights + 1000


def test_moved_bytes_are_what_is_read_and_written():
    found = counted([node("Relu", "x")], {"x": ("float32", [1, 1000])}, {})
    assert (found.weight_bytes, found.activation_bytes) == (0, 8000)


def test_a_matrix_product_that_cannot_be_counted_is_named():
    found = counted([node("Einsum", "x", "w", equation="ij,jk->ik")], {"x": ("float32", [4, 5])}, {"w": zeros(5, 6)})
    assert found.flops == 0
    assert found.not_counted == ("Einsum",)


def test_a_graph_that_the_cpu_cannot_run_has_no_counts():
    assert counted([node("NoSuchOperator", "x")], {"x": ("float32", [1, 4])}, {}) is None


def test_the_written_model_is_valid_onnx_and_computes_what_it_says():
    left, right = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((3, 200), np.float32)
    operands = [Constant(kind=FLOAT, shape=one.shape, data=one.tobytes()) for one in (left, right)]
    data = one_node("MatMul", operands, kind=FLOAT, shape=(2, 200))
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    (found,) = onnxruntime.InferenceSession(data, providers=[CPU]).run(None, {})
    np.testing.assert_array_equal(found, left @ right)


@pytest.mark.parametrize("kind", ceiling.KINDS)
def test_the_models_that_measure_multiply_in_the_arithmetic_that_they_name(kind):
    model = onnx.load_from_string(gemm_model(kind, 16))
    onnx.checker.check_model(model, full_check=True)
    types = [TensorProto.DataType.Name(one.data_type) for one in model.graph.initializer]
    names = {"fp32": "FLOAT", "fp16": "FLOAT16", "bf16": "BFLOAT16"}
    assert types == (["UINT8", "INT8"] if kind == "int8" else [names[kind]] * 2)
    values = [np.asarray(numpy_helper.to_array(one), np.float32) for one in model.graph.initializer]
    assert all(np.isfinite(one).all() and one.std() > 0.5 for one in values)


def test_the_ceiling_has_a_sample_per_round_and_none_without_a_kernel(monkeypatch):
    kept = ceiling.gemm_model
    nothing = one_node("NoSuchOperator", [], kind=FLOAT, shape=(1,))
    monkeypatch.setattr(ceiling, "gemm_model", lambda kind, side: nothing if kind == "bf16" else kept(kind, side))
    run = CeilingRun(CPU, 1, sides=32, copied=4096)
    run.warm_up()
    run.measure()
    run.measure()
    found = run.result()
    assert found.gemm["bf16"] is None
    for samples in (found.gemm["fp32"], found.gemm["int8"], found.copy):
        assert len(samples) == 2
        assert min(samples) > 0


def test_a_device_that_nothing_here_measures_has_no_ceiling():
    assert ceiling_provider("OpenVINO CPU") == CPU
    assert ceiling_provider("OpenVINO NPU") is None
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert ceiling_provider("TensorRT") is None
