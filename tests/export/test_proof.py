"""A graph that does not decide as its checkpoint does is refused with the numbers."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import skimage.data
import torch
from onnx import numpy_helper
from PIL import Image

from safevlm_export import proving
from safevlm_export.export import ExportOptions, export_checkpoint
from safevlm_export.graphs import head_source
from safevlm_export.proof import Evidence
from safevlm_export.proof_images import proof_images
from safevlm_export.reference import Vectors
from safevlm_export.to_onnx import export_onnx
from safevlm_export.tolerances import tolerances
from safevlm_sdk.decision import Rule
from safevlm_sdk.errors import CheckpointError, ExportError, ProofFailed
from safevlm_sdk.margins import decision_margin, threshold_margin
from safevlm_sdk.policy import default_policy_text, parse_policy

Cases = Callable[[str], Any]
POLICY = parse_policy(default_policy_text())
RULE = Rule(
    labels=("privacy", "safe"), activation="softmax", temperature=1.0, thresholds={"privacy": 0.5}, any_threshold=0.5
)
LEVELS = np.log(np.array([[0.1, 0.2, 0.3, 0.4]], dtype=np.float32))


class Fixed:
    """A backend with given outputs."""

    provider = "fixed"

    def __init__(self, **outputs: np.ndarray) -> None:
        self.outputs = outputs

    def run(self, inputs: Any, outputs: Any) -> dict[str, np.ndarray]:
        return {name: self.outputs[name] for name in outputs}

    def close(self) -> None: ...


def evidence(expected: list[float], found: list[float]) -> Evidence:
    """Of images whose privacy logits were expected and found so."""

    def outputs(logits: list[float]) -> dict[str, np.ndarray]:
        types = np.array([[logit, 0.0] for logit in logits], dtype=np.float32)
        return {"type_logits": types, "level_logprobs": LEVELS.repeat(len(logits), axis=0)}

    collected = Evidence(graph="gate.fp32", backend=Fixed(**outputs(found)), rule=RULE, policy=POLICY)
    names = [f"image {index}" for index in range(len(expected))]
    collected.add(names, Vectors(inputs={}, expected=outputs(expected)))
    return collected


def test_numbers_of_a_proof() -> None:
    result = evidence([2.0, -3.0, 0.02], [2.0, -3.0005, 0.02]).result(max_flips=0)
    assert result.proof.images == 3
    assert result.proof.max_error["type_logits"] == pytest.approx(5e-4, rel=1e-2)
    assert result.proof.mean_error["type_logits"] == pytest.approx(5e-4 / 6, rel=1e-2)
    assert result.near_threshold == ("image 2",)
    assert (result.proof.flips, result.proof.near_threshold) == (0, 1)


def test_a_flip_is_refused_unless_it_is_forgiven() -> None:
    collected = evidence([2.0, 1e-4], [2.0, -1e-4])
    with pytest.raises(ProofFailed, match="1 of 2 images changed category, level or action, 0 may"):
        collected.result(max_flips=0)
    assert collected.result(max_flips=1).flipped == ("image 1",)


def test_a_large_error_is_refused_without_a_flip() -> None:
    with pytest.raises(ProofFailed, match=r"0 of 1 images .*type_logits is off by 0\.1, 0\.00[0-9]+ is allowed"):
        evidence([5.0], [5.1]).result(max_flips=9)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ProofFailed, match="1 of 2 images changed"):
        evidence([5.0, 1.0], [5.0, bad]).result(max_flips=0)
    with pytest.raises(ProofFailed, match="type_logits is off by"):
        evidence([5.0, 1.0], [5.0, bad]).result(max_flips=9)


def with_features(scale: float, damage: Callable[[np.ndarray], None]) -> Evidence:
    """Of two images with features [100, 200] of this size, of which those of the second are damaged."""
    expected = np.full((2, 100, 200), scale, np.float32)
    found = expected.copy()
    damage(found[1])
    collected = Evidence(graph="gate.fp16", backend=Fixed(features=found), rule=RULE, policy=POLICY, precision="fp16")
    collected.add(["a", "b"], Vectors(inputs={}, expected={"features": expected}))
    return collected


def one_unit(features: np.ndarray) -> None:
    features[3, 4] = 0.0


def one_channel(features: np.ndarray) -> None:
    features[:, 4] = 0.0


def one_token(features: np.ndarray) -> None:
    features[3] = 0.0


def not_a_number(features: np.ndarray) -> None:
    features[3, 4] = float("nan")


@pytest.mark.parametrize("scale", [0.06, 6.0, 600.0])
def test_features_are_bounded_by_their_own_size_and_not_by_the_unit_that_is_most_off(scale: float) -> None:
    proof = with_features(scale, one_unit).result(max_flips=0).proof
    assert proof.max_error["features"] == pytest.approx(scale)
    for damage in (one_channel, one_token, not_a_number):
        with pytest.raises(ProofFailed, match=rf"features is off by .* \(root mean square\), {0.02 * scale:.3g} is"):
            with_features(scale, damage).result(max_flips=0)


def test_no_logit_may_stray() -> None:
    with pytest.raises(ProofFailed, match="type_logits is off by"):
        evidence([5.0] * 20_000, [5.0] * 19_999 + [5.1]).result(max_flips=0)


def test_no_images_are_no_proof() -> None:
    with pytest.raises(ProofFailed, match="no images"):
        Evidence(graph="g", backend=Fixed(), rule=RULE, policy=POLICY).result(max_flips=0)


def test_margins() -> None:
    def logits(p: float) -> np.ndarray:
        return np.array([np.log(p / (1 - p)), 0.0])

    assert threshold_margin(logits(0.53), RULE, POLICY) == pytest.approx(0.03)
    assert decision_margin(logits(0.3), LEVELS[0], RULE, POLICY) == pytest.approx(0.2)
    close = np.log(np.array([0.1, 0.2, 0.349, 0.351]))
    assert decision_margin(logits(0.9), close, RULE, POLICY) == pytest.approx(np.log(0.351 / 0.349))
    assert decision_margin(logits(0.3), close, RULE, POLICY) == pytest.approx(0.2)


def test_tolerances_leave_room_for_other_machines() -> None:
    expected = {"small": np.array([0.5, -0.1], np.float32), "large": np.array([300.0], np.float32)}
    found = {"small": np.array([0.5, -0.1001], np.float32), "large": np.array([300.0], np.float32)}
    allowed = tolerances(expected, found, {"small": 0.0, "large": 1e-5})
    assert allowed["small"] == pytest.approx(20 * 1e-4, rel=1e-2)
    assert allowed["large"] == pytest.approx(1e-4 * 300)


def poison(data: bytes) -> bytes:
    """The same graph with one weight matrix slightly changed."""
    model = onnx.load_from_string(data)
    tensor = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    values = numpy_helper.to_array(tensor)
    noise = np.random.default_rng(0).normal(scale=0.05, size=values.shape).astype(values.dtype)
    tensor.CopyFrom(numpy_helper.from_array(values + noise, tensor.name))
    return model.SerializeToString()


def test_a_poisoned_graph_leaves_the_old_bundle(
    case_of: Cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, out = case_of("vit-edge"), tmp_path / "out"
    before = case.report.manifest.digest
    shutil.copytree(case.bundle, out)
    export = proving.export_graph

    def poisoned(*args: Any, **options: Any) -> Any:
        made = export(*args, **options)
        return dataclasses.replace(made, data=poison(made.data))

    monkeypatch.setattr(proving, "export_graph", poisoned)
    with pytest.raises(ProofFailed, match=r"gate\.fp32: \d+ of 37 images changed .* is off by .* is allowed"):
        export_checkpoint(case.checkpoint, out, ExportOptions())
    assert f'"digest":"{before}"' in (out / "manifest.json").read_text()


def test_images_of_ones_own(case_of: Cases, tmp_path: Path) -> None:
    photos = tmp_path / "private photos"
    (photos / "deep").mkdir(parents=True)
    Image.fromarray(skimage.data.astronaut()).save(photos / "a.jpg")
    Image.fromarray(skimage.data.coffee()).save(photos / "deep" / "b.PNG")
    (photos / "labels.csv").write_text("a.jpg,safe")
    options = ExportOptions(calibration_data=photos)
    manifest = export_checkpoint(case_of("vit-edge").checkpoint, tmp_path / "out", options).manifest
    assert manifest.proof.source.startswith("2 of 2 given images; generated ")
    assert manifest.proof.graphs["gate.fp32"].images == 2 + 37
    assert b"private photos" not in (tmp_path / "out" / "manifest.json").read_bytes()


def test_no_image_of_the_users_enters_the_bundle(tmp_path: Path) -> None:
    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "a.png")
    images = proof_images(tmp_path, max_side=100)
    assert {image.name for image in images.load()} - {image.name for image in images.generated()} == {"a.png"}


def test_the_bundle_is_called_what_training_called_it(case_of: Cases, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(case_of("vit-edge").checkpoint, checkpoint)
    (checkpoint / "training.json").write_text('{"name": "mine", "license": "CC0-1.0", "seed": 0}')
    manifest = export_checkpoint(checkpoint, tmp_path / "out", ExportOptions()).manifest
    assert (manifest.name, manifest.license) == ("mine", "CC0-1.0")
    (checkpoint / "training.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"training\.json"):
        export_checkpoint(checkpoint, tmp_path / "out", ExportOptions())


def test_images_are_decoded_as_the_runtime_does(tmp_path: Path) -> None:
    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "a.png")
    image = next(proof_images(tmp_path, max_side=100).load())
    assert image.name == "a.png"
    assert image.pixels.shape == (100, 100, 3)


@pytest.mark.parametrize("what", ["missing", "empty", "broken"])
def test_images_that_cannot_be_used_are_named(what: str, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    if what != "missing":
        folder.mkdir()
    if what == "broken":
        (folder / "a.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    messages = {"missing": "is no folder", "empty": "holds no image", "broken": r"a\.jpg: "}
    with pytest.raises(ExportError, match=messages[what]):
        list(proof_images(folder, max_side=100).load())


def test_generated_images_are_always_the_same() -> None:
    def images() -> Iterator[tuple[str, bytes]]:
        for image in proof_images(None, max_side=200).load():
            assert max(image.pixels.shape[:2]) <= 200
            yield image.name, image.pixels.tobytes()

    first = list(images())
    assert first == list(images())
    assert len({name for name, _ in first}) == len(first) == 37


def test_log_sigmoid_stays_finite(case_of: Cases) -> None:
    class LogSigmoid(torch.nn.Module):
        def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.logsigmoid(features)

    source = head_source(case_of("vit-edge").model)
    source = dataclasses.replace(source, module=LogSigmoid(), outputs=source.outputs[:1])
    values = np.array([-300.0, -80.0, -18.5, 0.0, 18.5, 300.0] + [0.0] * 10, dtype=np.float32).reshape(1, 1, 16)
    session = onnxruntime.InferenceSession(export_onnx(source, identity={}))
    (found,) = session.run(None, {"features": values, "mask": np.ones((1, 1), dtype=np.bool_)})
    np.testing.assert_allclose(found, torch.nn.functional.logsigmoid(torch.from_numpy(values)).numpy(), atol=1e-6)


def test_export_of_a_model_that_cannot_be_traced_is_one_clear_error(case_of: Cases) -> None:
    class Branches(torch.nn.Module):
        def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return features if features.sum() > 0 else -features

    source = dataclasses.replace(head_source(case_of("vit-edge").model), module=Branches())
    with pytest.raises(ExportError, match="safety_head: PyTorch cannot export"):
        export_onnx(source, identity={})
    with pytest.raises(ExportError, match="opset is 17"):
        export_onnx(source, identity={}, opset=17)
