"""Classifiers in other precisions and in OpenVINO's IR: proven like the gate of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import skimage.data
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from safevlm_export.classifier.export import export_from_onnx
from safevlm_export.export import ExportOptions
from safevlm_runtime.bundle.reader import Bundle, read_bundle
from safevlm_runtime.runtime import Runtime

SIDE, WIDTH = 32, 32
MAP = f"""
schema = 1
name = "colours"
license = "MIT"
labels = {{ blue = "safe", red = "illegal_risk" }}
coverage = {{ illegal_risk = "Red things." }}
thresholds = {{ any = 0.7, categories = {{ illegal_risk = 0.7 }} }}
levels = {{ illegal_risk = {{ medium = 0.8, high = 0.99 }} }}
[model]
activation = "softmax"
outputs = "logits"
labels = ["blue", "red"]
[preprocessing]
resize = "exact"
height = {SIDE}
width = {SIDE}
resample = "bicubic"
white = 1.0
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
channels = "rgb"
layout = "NCHW"
"""


def classifier() -> bytes:
    """Red against blue, by a convolution, its mean over the picture, and two layers."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(scale=0.3, size=(WIDTH, 3, 3, 3)).astype(np.float32)
    kernel[0], kernel[1] = 0, 0
    kernel[0, 0], kernel[1, 2] = 1 / 9, 1 / 9
    hidden = rng.normal(scale=0.02, size=(WIDTH, WIDTH)).astype(np.float32) + np.eye(WIDTH, dtype=np.float32)
    last = rng.normal(scale=0.01, size=(WIDTH, 2)).astype(np.float32)
    last[0], last[1] = (-8, 8), (8, -8)
    weights = {"kernel": kernel, "hidden": hidden, "last": last}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "kernel"], ["seen"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["seen"], ["lit"]),
            helper.make_node("GlobalAveragePool", ["lit"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "hidden"], ["mixed"]),
            helper.make_node("Relu", ["mixed"], ["kept"]),
            helper.make_node("MatMul", ["kept", "last"], ["logits"]),
        ],
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, and plain colours on both sides of the threshold."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        Image.fromarray(getattr(skimage.data, name)()[::3, ::3]).save(folder / f"{name}.png")
    for name in ("red", "blue", "orange", "navy"):
        Image.new("RGB", (40, 40), name).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def bundle(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("classifier")
    (folder / "model.onnx").write_bytes(classifier())
    (folder / "map.toml").write_text(MAP)
    options = ExportOptions(calibration_data=photos, precisions=("fp32", "fp16", "int8", "w8"), openvino=True)
    export_from_onnx(folder / "model.onnx", folder / "map.toml", folder / "bundle", options)
    return read_bundle(folder / "bundle")


def test_every_graph_is_proven_on_the_images(bundle: Bundle, photos: Path) -> None:
    graphs = [graph.id for graph in bundle.manifest.graphs]
    assert graphs == [
        *("gate.fp32", "gate.fp16", "gate.int8", "gate.w8", "gate.fp16.openvino", "gate.int8.openvino"),
    ]
    ((images, flips),) = {(proof.images, proof.flips) for proof in bundle.manifest.proof.graphs.values()}
    assert flips == 0
    assert images > len(list(photos.iterdir()))  # drawn ones stand beside them
    assert b"QuantizeLinear" in bundle.graphs["gate.int8"]


@pytest.mark.parametrize(
    ("provider", "precision"),
    [("cpu", "fp16"), ("cpu", "int8"), ("cpu", "w8"), ("openvino", "fp16"), ("openvino", "int8")],
)
def test_each_decides_as_the_classifier_does(bundle: Bundle, photos: Path, provider: str, precision: str) -> None:
    pictures = sorted(photos.iterdir())
    with (
        Runtime.load(bundle.path, threads=1, provider=provider, precision=precision) as runtime,
        Runtime.load(bundle.path, threads=1, precision="fp32") as original,
    ):
        found, wanted = runtime.check_many(pictures), original.check_many(pictures)
    decided = [(verdict.error, verdict.action, verdict.category, verdict.level) for verdict in found]
    assert decided == [(verdict.error, verdict.action, verdict.category, verdict.level) for verdict in wanted]
    assert {verdict.category for verdict in wanted} == {"safe", "illegal_risk"}
