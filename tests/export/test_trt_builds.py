"""Real TensorRT-RTX builds, which need no GPU: every precision, several targets, and every refusal by name."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from transformers import ViTConfig, ViTModel

from safevlm_export.graphs import gate_source
from safevlm_export.precision.anatomy import typed
from safevlm_export.precision.calibration import measured_ranges
from safevlm_export.precision.half import to_half
from safevlm_export.precision.int8 import to_int8
from safevlm_export.to_onnx import export_onnx
from safevlm_runtime.backends.trt.build import EngineRequest, build_engine, capabilities_of
from safevlm_runtime.backends.trt.flavor import load_flavor
from safevlm_runtime.backends.trt.profile import profile_of, sizes_of
from safevlm_runtime.backends.trt.sidecar import here, misfit, sidecar
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_sdk.errors import EngineBuildError
from safevlm_sdk.preprocess import Preprocessing
from safevlm_sdk.strict import digest
from safevlm_sdk.taxonomy import load_taxonomy
from safevlm_training.config import TowerConfig, edge_config
from safevlm_training.modules import SafetyModules
from safevlm_training.risk_model import RiskModel
from safevlm_training.towers.transformers_tower import TransformersTower

TARGETS = ("8.6", "8.9", "12.0")
MAGIC = b"vtrt"


@pytest.fixture(scope="module")
def rtx():
    return load_flavor("tensorrt_rtx")


@pytest.fixture(scope="module")
def gate(case_of):
    """(entry in the manifest, its graph's bytes in four precisions, profile)."""
    bundle = read_bundle(case_of("clip-edge").bundle)
    graph = next(one for one in bundle.manifest.graphs if one.id == "gate.fp32")
    data = bundle.graphs[graph.id]
    model = typed(data)
    pixels = np.random.default_rng(1).random((2, 3, 48, 48), dtype=np.float32)
    ranges = measured_ranges(model, [{"pixel_values": pixels}])
    graphs = {
        "fp32": data,
        "fp16": to_half(data, "fp16", head_from="features"),
        "bf16": to_half(data, "bf16", head_from="features"),
        "int8": to_int8(model, ranges, head_from="features", target="tensorrt"),
    }
    return graph, graphs, profile_of(graph, sizes_of(bundle.manifest))


def model_of(*nodes, constants=(), shape=("batch", 4)):
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        list(constants),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model).SerializeToString()


def small(onnx_bytes, **changes):
    fields = {"profile": {"x": ((1, 4), (2, 4), (4, 4))}, "capabilities": ("8.6",), **changes}
    return EngineRequest(name="gate.test", onnx=onnx_bytes, **fields)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_an_engine_for_three_targets_is_built_without_a_gpu(rtx, gate, precision):
    graph, graphs, profile = gate
    request = EngineRequest(name=graph.id, onnx=graphs[precision], profile=profile, capabilities=TARGETS)
    seen = []
    built = build_engine(rtx, request, lambda *event: seen.append(event))
    assert built.engine.startswith(MAGIC)
    assert built.timing_cache == b""
    assert all(phase and 1 <= done <= steps for phase, done, steps in seen)
    assert "Building engine" in {phase for phase, _, _ in seen}
    entry = sidecar(graph, request, here(rtx), built.engine)
    assert entry.compute_capabilities == TARGETS
    assert entry.onnx_sha256 == digest(graphs[precision])
    assert (entry.size, entry.version, entry.flavor) == (len(built.engine), rtx.version, "tensorrt_rtx")
    assert entry.profile["pixel_values"] == ((1, 3, 48, 48), (8, 3, 48, 48), (32, 3, 48, 48))
    assert misfit(entry, here(rtx, "12.0")) is None
    assert "and the one here has 9.0" in str(misfit(entry, here(rtx, "9.0")))


def test_its_targets_are_in_the_engine(rtx, gate):
    _, graphs, profile = gate
    sizes = [
        len(
            build_engine(
                rtx, EngineRequest(name="g", onnx=graphs["fp16"], profile=profile, capabilities=wanted)
            ).engine
        )
        for wanted in (TARGETS[:1], TARGETS)
    ]
    assert sizes[0] < sizes[1]


def test_what_it_does_not_build_for_is_named(rtx, gate):
    _, graphs, profile = gate
    assert {"7.5", *TARGETS} <= set(capabilities_of(rtx))
    request = EngineRequest(name="gate.fp16", onnx=graphs["fp16"], profile=profile, capabilities=("9.0", "8.6"))
    with pytest.raises(EngineBuildError, match=r"gate\.fp16: TensorRT-RTX .* does not build for 9\.0, only for 7\.5"):
        build_engine(rtx, request)


def test_a_build_for_the_gpu_that_is_here_says_that_there_is_none(rtx):
    data = model_of(helper.make_node("Relu", ["x"], ["y"]))
    with pytest.raises(EngineBuildError, match=r"built nothing.*CUDA driver version is insufficient"):
        build_engine(rtx, small(data, capabilities=()))


def test_turing_takes_no_float32_products_and_says_so(rtx):
    weights = numpy_helper.from_array(np.ones((4, 8), np.float32), "w")
    data = model_of(helper.make_node("MatMul", ["x", "w"], ["y"]), constants=[weights])
    assert build_engine(rtx, small(data)).engine.startswith(MAGIC)
    with pytest.raises(EngineBuildError, match=r"gate\.test: TensorRT-RTX .* built nothing: .*FP32"):
        build_engine(rtx, small(data, capabilities=("7.5",)))


def test_what_the_parser_refuses_is_named(rtx):
    with pytest.raises(EngineBuildError, match=r"cannot read the graph: .*Failed to parse"):
        build_engine(rtx, small(b"garbage"))
    with pytest.raises(EngineBuildError, match="cannot read the graph: FooBar"):
        build_engine(rtx, small(model_of(helper.make_node("FooBar", ["x"], ["y"]))))


def test_a_profile_that_does_not_fit_is_named(rtx):
    data = model_of(helper.make_node("Relu", ["x"], ["y"]))
    with pytest.raises(EngineBuildError, match="no optimization profile"):
        build_engine(rtx, small(data, profile={}))
    with pytest.raises(EngineBuildError, match=r"gate\.test: .*profile"):
        build_engine(rtx, small(data, profile={"x": ((1, 5), (2, 5), (4, 5))}))


def test_what_is_for_the_other_flavour_is_refused(rtx):
    data = model_of(helper.make_node("Relu", ["x"], ["y"]))
    with pytest.raises(EngineBuildError, match="has no ampere_plus"):
        build_engine(rtx, small(data, compatibility="ampere_plus"))


def test_no_plugin_is_loaded_for_an_operator_that_needs_one(rtx):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("RoiAlign", ["x", "rois", "batches"], ["y"], output_height=2, output_width=2)],
        "test",
        [
            value("x", TensorProto.FLOAT, [1, 3, 8, 8]),
            value("rois", TensorProto.FLOAT, [2, 4]),
            value("batches", TensorProto.INT64, [2]),
        ],
        [value("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with pytest.raises(EngineBuildError, match=r"RoiAlign .*plugin was not found"):
        build_engine(rtx, small(model.SerializeToString(), profile={}))


def test_a_build_can_be_interrupted(rtx):
    def stop(phase, done, steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(rtx, small(model_of(helper.make_node("Relu", ["x"], ["y"]))), stop)


@pytest.mark.slow
def test_vit_b_16_is_built_in_three_precisions_for_three_targets(rtx):
    """The real architecture, with 86 million random weights."""
    tower = TransformersTower(
        ViTModel(ViTConfig(), add_pooling_layer=False).eval(), "hidden:-2", (224, 224), frozenset()
    )
    spec = Preprocessing(
        resize="exact", height=224, width=224, shortest_edge=None, resample="bilinear",
        rescale_factor=1 / 255, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5),
    )  # fmt: skip
    named = TowerConfig(kind="transformers", name="vit", revision=None, tap="hidden:-2", digest="sha256:" + "0" * 64)
    config = edge_config(
        tower=named, grid=tower.grid, feature_width=tower.feature_width, taxonomy=load_taxonomy(),
        coverage={"privacy": "Documents."}, preprocessing=spec,
    )  # fmt: skip
    data = export_onnx(gate_source(RiskModel(tower, SafetyModules(config))), identity={"role": "gate"})
    model = typed(data)
    ranges = measured_ranges(model, [{"pixel_values": np.zeros((1, 3, 224, 224), np.float32)}])
    graphs = {
        "fp16": to_half(data, "fp16", head_from="features"),
        "bf16": to_half(data, "bf16", head_from="features"),
        "int8": to_int8(model, ranges, head_from="features", target="tensorrt"),
    }
    profile = {"pixel_values": ((1, 3, 224, 224), (8, 3, 224, 224), (32, 3, 224, 224))}
    sizes = {}
    for precision, graph in graphs.items():
        request = EngineRequest(name=precision, onnx=graph, profile=profile, capabilities=TARGETS)
        sizes[precision] = len(build_engine(rtx, request).engine)
    assert len(data) * 0.45 < sizes["fp16"] < len(data) * 0.6
    assert sizes["bf16"] == pytest.approx(sizes["fp16"], rel=0.05)
    assert len(data) * 0.22 < sizes["int8"] < len(data) * 0.35
