"""`--precision`: what is written, what loads, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from safevlm_export import proof_images
from safevlm_export.export import ExportOptions, export_checkpoint
from safevlm_export.precision import exclusion, lowering
from safevlm_export.precision.calibration_images import CalibrationBatch
from safevlm_export.precision.half import HALF_OPS, to_half
from safevlm_export.precision.lowering import Lowering, lowered, wishes_of
from safevlm_export.proof import Evidence, GraphResult
from safevlm_export.proof_images import synthetic_images
from safevlm_export.proving import Exported, Judgement, opened_graph
from safevlm_export.reference import Vectors
from safevlm_runtime.backends.ort_backend import OrtBackend, SessionOptions
from safevlm_runtime.bundle.contract import choose_graph
from safevlm_runtime.bundle.reader import Bundle, read_bundle
from safevlm_runtime.bundle.self_test import self_test
from safevlm_runtime.bundle.verify import verify_bundle
from safevlm_runtime.runtime import Runtime
from safevlm_sdk.command.app import app
from safevlm_sdk.decision import Rule
from safevlm_sdk.errors import BundleError, BundleSelfTest, ExportError, ProofFailed
from safevlm_sdk.manifest import GATE, SAFETY_HEAD, TensorSpec
from safevlm_sdk.policy import default_policy_text, parse_policy

Cases = Callable[[str], Any]
CPU = "CPUExecutionProvider"
PICTURES = [pixels for _, pixels in synthetic_images()][:8]


@pytest.fixture(scope="module")
def bundle(case_of: Cases, drawn: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of every precision, exported by the command."""
    out = tmp_path_factory.mktemp("precision") / "bundle"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(proof_images, "examples", lambda: drawn)
        arguments = [case_of("vit-edge").checkpoint, out, "--precision", "fp32, fp16,bf16,int8,w8,w4"]
        done = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    assert "12 of 12 layers are int8; on 37 calibration images: 0 flips" in done.output
    assert "INFO" not in done.output
    return read_bundle(out)


def test_the_manifest_says_what_each_graph_is_for_and_what_proved_it(bundle: Bundle) -> None:
    graphs = {graph.id: graph for graph in bundle.manifest.graphs}
    assert {id: graph.target for id, graph in graphs.items()} == {
        "gate.fp32": "any",
        "safety_head.fp32": "any",
        "gate.fp16": "any",
        "gate.bf16": "tensorrt",
        "gate.int8": "cpu",
        "gate.w8": "any",
        "gate.w4": "any",
    }
    for id, graph in graphs.items():
        assert graph.proven_on is not None
        assert ("an emulation" in graph.proven_on) == (graph.precision in ("fp16", "bf16")), id
        proof = bundle.manifest.proof.graphs[id]
        assert (proof.images, proof.flips) == (37, 0)
        if graph.role == GATE:
            assert {"type_logits", "level_logprobs", "features"} <= proof.max_error.keys()
            assert proof.max_error.keys() == proof.mean_error.keys()
    assert "an emulation in float32" in bundle.card
    metadata = onnx.load_from_string(bundle.graphs["gate.int8"]).metadata_props[0].value
    assert '"precision":"int8"' in metadata
    assert bundle.manifest.identity.checkpoint_digest in metadata


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "w8", "w4"])
def test_every_precision_loads_and_decides_the_same(bundle: Bundle, precision: str, case_of: Cases) -> None:
    with (
        Runtime.load(bundle.path, precision=precision) as runtime,
        Runtime.load(case_of("vit-edge").bundle) as original,
    ):
        for found, wanted in zip(runtime.check_many(PICTURES), original.check_many(PICTURES), strict=True):
            assert (found.action, found.category, found.level) == (wanted.action, wanted.category, wanted.level)


def test_the_processor_takes_int8_and_never_what_was_made_for_tensorrt(bundle: Bundle) -> None:
    chosen = choose_graph(bundle.manifest, GATE, CPU, None)
    assert chosen is not None
    assert chosen.id == "gate.int8"
    with pytest.raises(
        BundleError, match=r"no gate graph of precision 'bf16' for CPUExecutionProvider, only .*bf16 for"
    ):
        choose_graph(bundle.manifest, GATE, CPU, "bf16")
    head = choose_graph(bundle.manifest, SAFETY_HEAD, CPU, "int8")
    assert head is not None
    assert head.id == "safety_head.fp32"


def test_verify_runs_all_but_those_made_for_tensorrt(bundle: Bundle) -> None:
    lines = verify_bundle(bundle.path).render().splitlines()
    assert "graph     gate.bf16: hashed; made for tensorrt, it is not run here" in lines
    assert sum("reproduces its golden decisions" in line for line in lines) == 6


class Broken:
    """A backend whose logits are off by a share of what int8 may be off."""

    def __init__(self, inner: OrtBackend, by: float) -> None:
        self.inner, self.by, self.provider = inner, by, inner.provider

    def run(self, inputs: Any, outputs: Any) -> dict[str, np.ndarray]:
        found = self.inner.run(inputs, outputs)
        return found | {"type_logits": found["type_logits"] + np.float32(self.by)}

    def close(self) -> None:
        self.inner.close()


def test_the_self_test_of_int8_is_no_wider_than_its_proof(bundle: Bundle) -> None:
    graph = choose_graph(bundle.manifest, GATE, CPU, "int8")
    assert graph is not None
    off = bundle.manifest.proof.graphs[graph.id].max_error["type_logits"]
    inner = OrtBackend.load(bundle.graphs[graph.id], graph, SessionOptions())
    assert self_test(bundle, graph, Broken(inner, 0.9 * off))["type_logits"] == pytest.approx(0.9 * off, rel=1e-2)
    with pytest.raises(BundleSelfTest, match="type_logits differs from its golden values"):
        self_test(bundle, graph, Broken(inner, 1.1 * off))


def in_primitive_operators(data: bytes) -> bytes:
    """The same graph, with layer normalisation written out."""
    model = onnx.load_from_string(data)
    nodes = []
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "last"))
    for number, node in enumerate(model.graph.node):
        if node.op_type != "LayerNormalization":
            nodes.append(node)
            continue
        (x, scale, bias), (y,) = node.input, node.output
        names = [
            f"ln{number}/{name}" for name in ("mean", "off", "square", "variance", "above", "root", "unit", "own")
        ]
        mean, off, square, variance, above, root, unit, own = names
        model.graph.initializer.append(numpy_helper.from_array(np.array(1e-12, np.float32), f"ln{number}/least"))
        nodes += [
            helper.make_node("ReduceMean", [x, "last"], [mean]),
            helper.make_node("Sub", [x, mean], [off]),
            helper.make_node("Mul", [off, off], [square]),
            helper.make_node("ReduceMean", [square, "last"], [variance]),
            helper.make_node("Add", [variance, f"ln{number}/least"], [above]),
            helper.make_node("Sqrt", [above], [root]),
            helper.make_node("Div", [off, root], [unit]),
            helper.make_node("Mul", [unit, scale], [own]),
            helper.make_node("Add", [own, bias], [y]),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString())


def gate_vectors(data: bytes, pixels: np.ndarray) -> Vectors:
    """What a float32 graph itself says."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    expected = dict(zip(names, session.run(names, {"pixel_values": pixels}), strict=True))
    return Vectors(inputs={"pixel_values": pixels}, expected=expected)


def proven(one: Exported, vectors: Vectors, judgement: Judgement) -> GraphResult:
    """A graph's proof on some vectors."""
    evidence = Evidence(
        graph=one.graph.id,
        backend=one.backend,
        rule=judgement.rule,
        policy=judgement.policy,
        precision=one.graph.precision,
    )
    evidence.add([f"image {row}" for row in range(len(vectors.expected["type_logits"]))], vectors)
    return evidence.result(max_flips=judgement.max_flips)


def small_gate_with_a_norm() -> bytes:
    """One layer norm between two matrix products, in primitive operators; what it norms is around a thousand."""
    rng = np.random.default_rng(0)
    weights = {
        "enter.weight": rng.normal(size=(192, 16)) * 100,
        "scale": np.ones(16),
        "bias": np.zeros(16),
        "leave.weight": rng.normal(size=(16, 4)),
        "head.weight": rng.normal(size=(4, 2)),
        "levels.weight": rng.normal(size=(4, 4)),
    }
    constants = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()]
    constants += [numpy_helper.from_array(np.array(shape), f"to {len(shape)}") for shape in ([0, 1, 192], [0, -1])]
    nodes = [
        helper.make_node("Reshape", ["pixel_values", "to 3"], ["flat"]),
        helper.make_node("MatMul", ["flat", "enter.weight"], ["loud"]),
        helper.make_node("LayerNormalization", ["loud", "scale", "bias"], ["normed"], axis=-1),
        helper.make_node("MatMul", ["normed", "leave.weight"], ["features"]),
        helper.make_node("Reshape", ["features", "to 2"], ["pooled"]),
        helper.make_node("MatMul", ["pooled", "head.weight"], ["type_logits"]),
        helper.make_node("MatMul", ["pooled", "levels.weight"], ["levels"]),
        helper.make_node("LogSoftmax", ["levels"], ["level_logprobs"], axis=1),
    ]
    return in_primitive_operators(small_model(nodes, constants, NORM_OUTPUTS))


def small_model(nodes: list[Any], constants: list[Any], outputs: tuple[TensorSpec, ...]) -> bytes:
    value = helper.make_tensor_value_info
    given = [value(spec.name, TensorProto.FLOAT, list(spec.shape)) for spec in SMALL_INPUTS]
    wanted = [value(spec.name, TensorProto.FLOAT, list(spec.shape)) for spec in outputs]
    graph = helper.make_graph(nodes, "small", given, wanted, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def test_layer_norms_that_overflow_in_fp16_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_gate_with_a_norm()
    vectors = gate_vectors(data, np.random.default_rng(1).normal(size=(16, 3, 8, 8)).astype(np.float32))
    fp32 = opened_graph(GATE, SMALL_INPUTS, NORM_OUTPUTS, data)
    fp16 = Lowering(precision="fp16", target="any")
    monkeypatch.setattr(lowering, "to_half", partial(to_half, ops={"MatMul", "Reshape"}))
    assert proven(lowered(fp32, fp16, (), JUDGEMENT), vectors, JUDGEMENT).proof.flips == 0
    monkeypatch.setattr(lowering, "to_half", partial(to_half, ops=HALF_OPS | {"ReduceMean", "Sqrt"}))
    forced = lowered(fp32, fp16, (), JUDGEMENT)
    with pytest.raises(ProofFailed, match=r"gate\.fp16: \d+ of 16 images changed .*leave fp16 out of --precision"):
        proven(forced, vectors, JUDGEMENT)


def small_convolutional_gate(*, loud_channel: float) -> bytes:
    """Four convolutions and a head; behind the second, one channel is much louder than the others."""
    rng = np.random.default_rng(0)
    weights = {
        "tower.a.weight": rng.normal(size=(8, 3, 3, 3)) * 0.3,
        "tower.b.weight": rng.normal(size=(8, 8, 1, 1)) * (1.0 + loud_channel * np.eye(8)[3][:, None, None, None]),
        "tower.c.weight": rng.normal(size=(8, 8, 1, 1)) / (1.0 + loud_channel * np.eye(8)[3][None, :, None, None]),
        "tower.d.weight": rng.normal(size=(4, 8, 1, 1)) * 0.3,
        "head.weight": rng.normal(size=(4, 2)) * 3,
        "levels.weight": rng.normal(size=(4, 4)),
    }
    constants = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()]
    constants += [
        numpy_helper.from_array(np.array([0, 4, -1]), "flat"),
        numpy_helper.from_array(np.array([1]), "one"),
    ]
    nodes = [
        helper.make_node("Conv", ["pixel_values", "tower.a.weight"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["relu"]),
        helper.make_node("Conv", ["relu", "tower.b.weight"], ["b"]),
        helper.make_node("Conv", ["b", "tower.c.weight"], ["c"]),
        helper.make_node("Conv", ["c", "tower.d.weight"], ["d"]),
        helper.make_node("Reshape", ["d", "flat"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["features"], perm=[0, 2, 1]),
        helper.make_node("ReduceMean", ["features", "one"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "head.weight"], ["type_logits"]),
        helper.make_node("MatMul", ["pooled", "levels.weight"], ["levels"]),
        helper.make_node("LogSoftmax", ["levels"], ["level_logprobs"], axis=1),
    ]
    return small_model(nodes, constants, SMALL_OUTPUTS)


SMALL_INPUTS = (TensorSpec(name="pixel_values", dtype="float32", shape=("batch", 3, 8, 8)),)
SMALL_OUTPUTS = (
    TensorSpec(name="type_logits", dtype="float32", shape=("batch", 2)),
    TensorSpec(name="level_logprobs", dtype="float32", shape=("batch", 4)),
    TensorSpec(name="features", dtype="float32", shape=("batch", 64, 4)),
)
NORM_OUTPUTS = (*SMALL_OUTPUTS[:2], TensorSpec(name="features", dtype="float32", shape=("batch", 1, 4)))
RULE = Rule(
    labels=("privacy", "safe"), activation="softmax", temperature=1.0, thresholds={"privacy": 0.5}, any_threshold=0.5
)
JUDGEMENT = Judgement(rule=RULE, policy=parse_policy(default_policy_text()), max_flips=0)
INT8 = Lowering(precision="int8", target="cpu")


def small_case(*, loud_channel: float) -> tuple[Exported, list[CalibrationBatch]]:
    data = small_convolutional_gate(loud_channel=loud_channel)
    pixels = np.random.default_rng(1).normal(size=(16, 3, 8, 8)).astype(np.float32)
    batch = CalibrationBatch(names=[str(row) for row in range(16)], vectors={GATE: gate_vectors(data, pixels)})
    return opened_graph(GATE, SMALL_INPUTS, SMALL_OUTPUTS, data), [batch]


def test_layers_of_a_convolutional_tower_stay_float32_only_where_they_must() -> None:
    quiet, batches = small_case(loud_channel=0.0)
    assert lowered(quiet, INT8, batches, JUDGEMENT).graph.kept_fp32 == ()
    loud, batches = small_case(loud_channel=3000.0)
    found = lowered(loud, INT8, batches, JUDGEMENT)
    assert set(found.graph.kept_fp32) == {"tower.b", "tower.c"}
    assert "2 of 4 layers are int8; on 16 calibration images: " in found.notes[0]
    assert "with tower." in found.notes[0]
    result = proven(found, batches[0].vectors[GATE], JUDGEMENT)
    assert result.proof.flips == 0
    assert result.proof.max_error["features"] > 0


def test_int8_that_cannot_be_saved_is_refused_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    loud, batches = small_case(loud_channel=3000.0)
    monkeypatch.setattr(exclusion, "MOST_EXCLUDED", 0.25)
    with pytest.raises(ProofFailed, match=r"gate\.int8: 3 of 4 layers are int8; .* leave int8 out of --precision"):
        lowered(loud, INT8, batches, JUDGEMENT)


def test_what_a_list_of_precisions_stands_for() -> None:
    assert wishes_of(("fp32",), tensorrt=True) == ()
    made = wishes_of(("fp32", "int8", "int8", "bf16", "fp16"), tensorrt=True)
    assert [(one.precision, one.target) for one in made] == [
        ("int8", "cpu"),
        ("int8", "tensorrt"),
        ("bf16", "tensorrt"),
        ("fp16", "any"),
    ]
    assert [one.target for one in wishes_of(("int8",), tensorrt=False)] == ["cpu"]


def test_int8_for_tensorrt_is_a_graph_of_its_own() -> None:
    one, batches = small_case(loud_channel=0.0)
    found = lowered(one, Lowering(precision="int8", target="tensorrt"), batches, JUDGEMENT)
    assert (found.graph.id, found.graph.file) == ("gate.int8.tensorrt", "graphs/gate.int8.tensorrt.onnx")


@pytest.mark.parametrize("precisions", [("int4",), ("",), ("fp32", "FP16")])
def test_an_unknown_precision_stops_before_work(precisions: Any, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is unknown; known are fp32, fp16, bf16, int8, w8, w4"):
        export_checkpoint(tmp_path / "no-checkpoint", tmp_path / "out", ExportOptions(precisions=precisions))
