"""A complete tiny bundle around a real ONNX graph: blue pixels are `privacy`, red ones are `illegal_risk`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from safevlm_sdk.calibration.record import CalibrationRecord
from safevlm_sdk.golden import Golden, golden_bytes
from safevlm_sdk.manifest import (
    Calibration,
    Graph,
    GraphProof,
    Identity,
    Manifest,
    Proof,
    TensorSpec,
    Thresholds,
    ViewPlan,
    manifest_bytes,
    sealed,
)
from safevlm_sdk.preprocess import Preprocessing, preprocess
from safevlm_sdk.strict import digest
from safevlm_sdk.taxonomy import load_taxonomy

SIDE, GRID, WIDTH = 16, (4, 4), 3
TOWER = "sha256:" + "0" * 64
SPEC = Preprocessing(
    resize="exact", height=SIDE, width=SIDE, shortest_edge=None, resample="bilinear",
    rescale_factor=1 / 255, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip
POLICY = b"""schema = 1
name = "test"
uncovered = "allow"
[actions.privacy]
low = "caution"
medium = "block"
high = "block"
[actions.illegal_risk]
low = "block"
medium = "block"
high = "block"
"""


def colour(red: int, green: int, blue: int, size: int = 32) -> np.ndarray:
    return np.broadcast_to(np.array([red, green, blue], dtype=np.uint8), (size, size, 3)).copy()


def _head_nodes(labels: tuple[str, ...]) -> tuple[list[Any], list[Any]]:
    weights = np.zeros((3, len(labels)), np.float32)
    for index, label in enumerate(labels):
        channel = {"illegal_risk": 0, "safe": 1, "privacy": 2}.get(label)
        if channel is not None:
            weights[channel, index] = 8.0
    levels = np.zeros((3, 4), np.float32)
    levels[2] = [0, 1, 4, 2]  # blue is MEDIUM
    levels[0] = [0, 1, 2, 6]  # red is HIGH
    constants = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(levels, "l")]
    nodes = [
        helper.make_node("MatMul", ["pooled", "w"], ["type_logits"]),
        helper.make_node("MatMul", ["pooled", "l"], ["levels"]),
        helper.make_node("LogSoftmax", ["levels"], ["level_logprobs"], axis=1),
    ]
    return nodes, constants


def _model(nodes, inputs, outputs, constants) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "test", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def gate_model(labels: tuple[str, ...]) -> onnx.ModelProto:
    """Patch means -> attention by brightness, and their mean -> logits."""
    head, constants = _head_nodes(labels)
    tokens = GRID[0] * GRID[1]
    constants += [numpy_helper.from_array(np.array([0, 3, tokens], np.int64), "flat")]
    nodes = [
        helper.make_node("AveragePool", ["pixel_values"], ["patches"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Reshape", ["patches", "flat"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["features"], perm=[0, 2, 1]),
        helper.make_node("ReduceMean", ["features"], ["pooled"], axes=[1], keepdims=0),
        helper.make_node("ReduceMean", ["features"], ["bright"], axes=[2], keepdims=0),
        helper.make_node("Softmax", ["bright"], ["attention"], axis=1),
        *head,
    ]
    value = helper.make_tensor_value_info
    return _model(
        nodes,
        [value("pixel_values", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [
            value("type_logits", TensorProto.FLOAT, ["batch", len(labels)]),
            value("level_logprobs", TensorProto.FLOAT, ["batch", 4]),
            value("attention", TensorProto.FLOAT, ["batch", tokens]),
            value("features", TensorProto.FLOAT, ["batch", tokens, WIDTH]),
        ],
        constants,
    )


def head_model(labels: tuple[str, ...]) -> onnx.ModelProto:
    """The mean of valid tokens -> logits."""
    head, constants = _head_nodes(labels)
    constants += [numpy_helper.from_array(np.array([2], np.int64), "two")]
    nodes = [
        helper.make_node("Cast", ["mask"], ["valid"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["valid", "axis"], ["per_row"], keepdims=1),
        helper.make_node("Div", ["valid", "per_row"], ["attention"]),
        helper.make_node("Unsqueeze", ["attention", "two"], ["weights"]),
        helper.make_node("Mul", ["features", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "axis"], ["pooled"], keepdims=0),
        *head,
    ]
    constants += [numpy_helper.from_array(np.array([1], np.int64), "axis")]
    value = helper.make_tensor_value_info
    return _model(
        nodes,
        [
            value("features", TensorProto.FLOAT, ["batch", "tokens", WIDTH]),
            value("mask", TensorProto.BOOL, ["batch", "tokens"]),
        ],
        [
            value("type_logits", TensorProto.FLOAT, ["batch", len(labels)]),
            value("level_logprobs", TensorProto.FLOAT, ["batch", 4]),
            value("attention", TensorProto.FLOAT, ["batch", "tokens"]),
        ],
        constants,
    )


@dataclass
class BundleMaker:
    """What a bundle is made of; tests change a field and `write` it."""

    labels: tuple[str, ...] = ("illegal_risk", "privacy", "safe")
    name: str = "colours"
    policy: bytes = POLICY
    proof: str = "decisions"
    models: dict[str, onnx.ModelProto] = field(default_factory=dict)
    tile: int | None = None
    overlap: int = 0
    max_views: int = 1
    expected: Callable[[str, str, np.ndarray], np.ndarray] = lambda graph, name, values: values
    thresholds: float = 0.6
    raster_max_side: int = 64

    def write(self, folder: Path) -> Path:
        models = {"gate": gate_model(self.labels), "safety_head": head_model(self.labels), **self.models}
        data = {role: model.SerializeToString() for role, model in models.items()}
        images = tuple(colour(*rgb) for rgb in ((250, 0, 0), (0, 250, 0), (0, 0, 250)))
        tensors = np.stack([preprocess(image, SPEC) for image in images])
        features = tensors.mean(axis=(2, 3))[:, None, :].repeat(16, axis=1)
        mask = np.ones((3, 16), np.bool_)
        feeds = {"gate": {"pixel_values": tensors}, "safety_head": {"features": features, "mask": mask}}
        expected = {f"{role}.fp32": self._run(role, data[role], feeds[role]) for role in data}
        golden = golden_bytes(Golden(images=images, features=features, mask=mask, expected=expected))
        contents = {f"graphs/{role}.fp32.onnx": data[role] for role in data}
        contents |= {"golden.npz": golden, "policy.toml": self.policy, "README.md": b"# A test bundle\n"}
        manifest = sealed(self._manifest(models, {path: digest(body) for path, body in contents.items()}))
        (folder / "graphs").mkdir(parents=True)
        for path, body in {**contents, "manifest.json": manifest_bytes(manifest)}.items():
            (folder / path).write_bytes(body)
        return folder

    def _run(self, role: str, data: bytes, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        wanted = ["type_logits", "level_logprobs", "attention"]
        found = dict(zip(wanted, session.run(wanted, feeds), strict=True))
        return {name: self.expected(role, name, values) for name, values in found.items()}

    def _manifest(self, models: dict[str, onnx.ModelProto], files: dict[str, str]) -> Manifest:
        graphs = tuple(_graph(role, model) for role, model in models.items())
        risks = [label for label in self.labels if label != "safe"]
        proofs = {
            graph.id: GraphProof(images=3, max_error={}, mean_error={}, flips=0, near_threshold=0) for graph in graphs
        }
        return Manifest(
            schema_version=1, digest="", name=self.name, license="Apache-2.0",
            identity=Identity(
                tower="mean-colour", tower_digest=TOWER, checkpoint_digest=TOWER, tap="hidden:-1", grid=GRID,
                feature_width=WIDTH,
            ),
            taxonomy=load_taxonomy(), coverage={risk: "colours" for risk in risks}, labels=self.labels,
            activation="softmax", preprocessing=SPEC,
            view_plan=self._view_plan(),
            calibration=Calibration(
                method="none", temperature=1.0, risky_groups=0, safe_groups=0, note="", record=self._record()
            ),
            thresholds=Thresholds(categories=dict.fromkeys(risks, self.thresholds), any=self.thresholds),
            graphs=graphs, proof=Proof(kind=self.proof, source="colours", graphs=proofs), files=files,
        )  # fmt: skip

    def _view_plan(self) -> ViewPlan:
        return ViewPlan(
            raster_max_side=self.raster_max_side, tile=self.tile, overlap=self.overlap, max_views=self.max_views
        )

    def _record(self) -> CalibrationRecord | None:
        """Of a calibration under the view plan, without which tiles are refused."""
        if self.tile is None:
            return None
        return CalibrationRecord(
            came_from=TOWER, policy=TOWER, images=TOWER, rates=(), confidence=0.95, temperature_groups=0, failed=0,
            near_threshold=0, undecided=0, view_plan=self._view_plan(),
        )  # fmt: skip


def _graph(role: str, model: onnx.ModelProto) -> Graph:
    kinds = {TensorProto.FLOAT: "float32", TensorProto.BOOL: "bool"}

    def specs(values: Any) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(
                name=value.name,
                dtype=kinds[value.type.tensor_type.elem_type],
                shape=tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim),
            )
            for value in values
        )

    return Graph(
        id=f"{role}.fp32", role=role, backend="onnxruntime", precision="fp32", file=f"graphs/{role}.fp32.onnx",
        inputs=specs(model.graph.input), outputs=specs(model.graph.output),
        tolerance={"type_logits": 1e-4, "level_logprobs": 1e-4, "attention": 1e-4}, target="any",
    )  # fmt: skip


@pytest.fixture
def maker() -> BundleMaker:
    """What a valid bundle is made of, to be changed."""
    return BundleMaker()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A valid bundle folder."""
    return BundleMaker().write(tmp_path / "bundle")


@pytest.fixture
def models() -> dict[str, Callable[..., onnx.ModelProto]]:
    """Makers of the two graphs."""
    return {"gate": gate_model, "safety_head": head_model}


@pytest.fixture
def paint() -> Callable[..., np.ndarray]:
    """Makes an image of one colour: red is `illegal_risk`, blue is `privacy`, green is safe."""
    return colour
