"""ONNX classifiers that nobody here trained, as bundles: the same decisions, or a refusal that names the reason."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import skimage.data
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

from safevlm_export.classifier.export import export_from_onnx
from safevlm_export.export import ExportOptions
from safevlm_runtime.bundle.contract import check_graph
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_runtime.runtime import Runtime
from safevlm_sdk.command.app import app
from safevlm_sdk.errors import BundleGraph, BundleUncalibrated, ExportError, LabelMapError
from safevlm_sdk.features import VisionFeatures
from safevlm_sdk.manifest import TensorSpec
from safevlm_sdk.strict import digest
from safevlm_sdk.taxonomy import RiskLevel

pytestmark = pytest.mark.usefixtures("drawn_once")

RECIPE = Path(__file__).parents[2] / "recipes" / "open-nsfw.toml"
SIDE = 8
# The interface of open_nsfw: NHWC, BGR, means of 0 to 255, resized and then cut, two probabilities, operator set 9.
MAP: dict[str, Any] = {
    "schema": 1,
    "name": "colours",
    "license": "MIT",
    "model": {"activation": "softmax", "outputs": "probabilities", "labels": ["green", "red"]},
    "labels": {"green": "safe", "red": "illegal_risk"},
    "coverage": {"illegal_risk": "Red things."},
    "levels": {"illegal_risk": {"medium": 0.5, "high": 0.8}},
    "thresholds": {"any": 0.2, "categories": {"illegal_risk": 0.2}},
    "preprocessing": {
        "resize": "exact",
        "height": 10,
        "width": 12,
        "crop": [SIDE, SIDE],
        "resample": "bilinear",
        "white": 255.0,
        "mean": [123.0, 117.0, 104.0],
        "std": [1.0, 1.0, 1.0],
        "channels": "bgr",
        "layout": "NHWC",
    },
}


def toml(values: dict[str, Any]) -> str:
    """TOML of nested tables, strings, numbers and lists."""

    def value(found: Any) -> str:
        if isinstance(found, dict):
            return "{" + ", ".join(f"{key} = {value(one)}" for key, one in found.items()) + "}"
        if isinstance(found, (list, tuple)):
            return "[" + ", ".join(map(value, found)) + "]"
        return f'"{found}"' if isinstance(found, str) else str(found)

    return "\n".join(f"{key} = {value(one)}" for key, one in values.items())


def changed(**changes: Any) -> dict[str, Any]:
    """The map with entries replaced, `a__b` being b in table a; None removes one."""
    found = {key: dict(one) if isinstance(one, dict) else one for key, one in MAP.items()}
    for path, new in changes.items():
        *above, last = path.split("__")
        table = found[above[0]] if above else found
        if new is None:
            table.pop(last)
        else:
            table[last] = new
    return found


def classifier(
    end: str | None = "Softmax", *, labels: int = 2, layout: str = "NHWC", opset: int = 9, **shape: Any
) -> onnx.ModelProto:
    """Mean colours (and a smooth pattern) times a weight, then `end`; `shape` fixes batch and side."""
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(3, labels)).astype(np.float32) / 40
    side, batch = shape.get("side", SIDE), shape.get("batch", "n")
    sizes = [batch, side, side, 3] if layout == "NHWC" else [batch, 3, side, side]
    axes = [1, 2] if layout == "NHWC" else [2, 3]
    constants = [numpy_helper.from_array(weights, "weights")]
    reduced = ["image:0"]
    attributes: dict[str, Any] = {"axes": axes}
    if opset >= 18:
        constants.append(numpy_helper.from_array(np.array(axes, np.int64), "axes"))
        reduced, attributes = ["image:0", "axes"], {}
    nodes = [
        helper.make_node("ReduceMean", reduced, ["means"], keepdims=0, **attributes),
        helper.make_node("MatMul", ["means", "weights"], ["logits" if end else "out"]),
    ]
    if "dtype" in shape:
        nodes[0].input[0] = "floats"
        nodes.insert(0, helper.make_node("Cast", ["image:0"], ["floats"], to=TensorProto.FLOAT))
    if end:
        nodes.append(helper.make_node(end, ["logits"], ["out"], **({"axis": 1} if end == "Softmax" else {})))
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image:0", shape.get("dtype", TensorProto.FLOAT), sizes)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [batch, labels])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few real photographs, and pure colours at which the probabilities saturate."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut", "coffee", "chelsea"):
        Image.fromarray(getattr(skimage.data, name)()[::3, ::3]).save(folder / f"{name}.png")
    for name in ("red", "lime", "blue", "white", "black"):
        Image.new("RGB", (20, 30), name).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def export(tmp_path: Path, photos: Path) -> Callable[..., Path]:
    """Exports a model under a map, and gives the bundle's folder."""

    def run(model: onnx.ModelProto | bytes, found: dict[str, Any] | None = None, **options: Any) -> Path:
        data = model if isinstance(model, bytes) else model.SerializeToString()
        (tmp_path / "model.onnx").write_bytes(data)
        (tmp_path / "map.toml").write_text(toml(MAP if found is None else found))
        chosen = ExportOptions(**{"calibration_data": photos, **options})
        export_from_onnx(tmp_path / "model.onnx", tmp_path / "map.toml", tmp_path / "bundle", chosen)
        return tmp_path / "bundle"

    return run


def ask(model: onnx.ModelProto, image: Image.Image) -> np.ndarray:
    """What the model says of an image, by the steps that its package would take."""
    resized = image.resize((12, 10), Image.Resampling.BILINEAR).crop((2, 1, 10, 9))
    bgr = np.asarray(resized, dtype=np.float32)[:, :, ::-1] - np.array([104, 117, 123], dtype=np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"image:0": np.ascontiguousarray(bgr[None])})[0][0]


def judged(bundle: Path, image: Image.Image | Path) -> Any:
    with Runtime.load(bundle, threads=1) as runtime:
        return runtime.check(image)


def test_the_bundle_says_what_the_model_says_with_levels_by_its_cut_points(
    export: Callable[..., Path], photos: Path
) -> None:
    model = classifier()
    bundle = export(model)
    levels = set()
    with Runtime.load(bundle, threads=1) as runtime:
        for path in sorted(photos.iterdir()):
            verdict, p = runtime.check(path), float(ask(model, Image.open(path))[1])
            assert verdict.categories["illegal_risk"] == pytest.approx(p, abs=1e-5)
            wanted = RiskLevel.NONE if p < 0.2 else RiskLevel.LOW if p < 0.5 else RiskLevel.MEDIUM
            assert verdict.level == (RiskLevel.HIGH if p >= 0.8 else wanted)
            levels.add(verdict.level)
        with pytest.raises(ValueError, match="no heatmap"):
            verdict.heatmap()
        grid = VisionFeatures(
            array=np.zeros((1, 1), np.float32), grid=(1, 1), tower_digest="", tap="", raster_sha256=""
        )
        assert runtime.check_features(grid).error == "features_mismatch"
    assert len(levels) >= 3


def test_the_manifest_the_card_and_the_report_say_what_it_is(export: Callable[..., Path]) -> None:
    found = read_bundle(export(classifier(), name="mine"))
    manifest = found.manifest
    assert manifest.identity.is_classifier
    assert (manifest.name, manifest.license, manifest.labels) == ("mine", "MIT", ("illegal_risk", "safe"))
    assert manifest.calibration.method == "stated"
    assert manifest.proof.kind == "decisions"
    proof = manifest.proof.graphs["gate.fp32"]
    assert proof.flips == 0
    assert max(proof.max_error.values()) < 1e-4
    assert "image classifier, not trained here" in found.card
    assert "thresholds were stated" in found.card
    assert found.golden.features.shape == (0, 0, 0)


@pytest.mark.parametrize("opset", [9, 21])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("outputs", ["logits", "probabilities"])
def test_every_activation_is_proven_in_every_operator_set(
    opset: int, activation: str, outputs: str, export: Callable[..., Path]
) -> None:
    end = {"softmax": "Softmax", "sigmoid": "Sigmoid"}[activation] if outputs == "probabilities" else None
    labels = {"a": "privacy", "b": "safe", "c": "illegal_risk", "d": "privacy", "e": "safe"}
    found = changed(
        model={"activation": activation, "outputs": outputs, "labels": list(labels)},
        labels=labels,
        coverage={"privacy": "P.", "illegal_risk": "I."},
        levels={"privacy": "usual", "illegal_risk": {"medium": 0.3, "high": 0.7}},
        thresholds={"any": 0.6, "categories": {"privacy": 0.4, "illegal_risk": 0.3}},
        preprocessing__layout="NCHW",
    )
    bundle = export(classifier(end, labels=5, layout="NCHW", opset=opset), found)
    risks = ("illegal_risk", "privacy")
    assert read_bundle(bundle).manifest.labels == (risks if activation == "sigmoid" else (*risks, "safe"))


def test_several_labels_of_a_softmax_are_summed(export: Callable[..., Path], photos: Path) -> None:
    model = classifier(labels=4)
    labels = {"a": "safe", "b": "illegal_risk", "c": "safe", "d": "illegal_risk"}
    bundle = export(model, changed(model__labels=list(labels), labels=labels))
    p = ask(model, Image.open(photos / "coffee.png"))
    assert judged(bundle, photos / "coffee.png").categories["illegal_risk"] == pytest.approx(p[1] + p[3], abs=1e-5)


def test_of_several_labels_of_a_sigmoid_the_largest_counts(export: Callable[..., Path], photos: Path) -> None:
    model = classifier("Sigmoid", labels=3)
    labels = {"a": "safe", "b": "illegal_risk", "c": "illegal_risk"}
    found = changed(
        model={"activation": "sigmoid", "outputs": "probabilities", "labels": list(labels)}, labels=labels
    )
    p = ask(model, Image.open(photos / "coffee.png"))
    verdict = judged(export(model, found), photos / "coffee.png")
    assert verdict.categories["illegal_risk"] == pytest.approx(max(p[1:]), abs=1e-5)


def test_the_usual_level_is_the_taxonomys(export: Callable[..., Path], photos: Path) -> None:
    bundle = export(classifier(), changed(levels={"illegal_risk": "usual"}))
    with Runtime.load(bundle, threads=1) as runtime:
        levels = {verdict.level for verdict in map(runtime.check, photos.iterdir())}
    assert levels == {RiskLevel.NONE, RiskLevel.HIGH}


def test_a_model_of_one_image_at_a_time_is_served(export: Callable[..., Path], photos: Path) -> None:
    bundle = export(classifier(batch=1))
    with Runtime.load(bundle, threads=1) as runtime:
        assert all(verdict.error is None for verdict in runtime.check_many(photos.iterdir()))


def test_sizes_that_the_model_leaves_open_become_the_maps(export: Callable[..., Path]) -> None:
    bundle = export(classifier(side="any"))
    shape = read_bundle(bundle).manifest.graphs[0].inputs[0].shape
    assert shape == ("batch", 3, 10, 12)


def test_without_thresholds_it_waits_for_calibration(
    export: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    bundle = export(classifier(), changed(thresholds=None))
    with pytest.raises(BundleUncalibrated):
        Runtime.load(bundle)
    safe = tmp_path / "safe"
    shutil.copytree(photos, safe)
    arguments = ["calibrate", bundle, "--safe", safe, "--flag-at-most", "0.6", "--confidence", "0.8"]
    done = CliRunner().invoke(app, [*map(str, arguments), "--out", str(tmp_path / "calibrated")])
    assert done.exit_code == 0, done.output
    manifest = read_bundle(tmp_path / "calibrated").manifest
    assert (manifest.proof.kind, manifest.calibration.method) == ("decisions", "temperature")
    assert judged(tmp_path / "calibrated", photos / "coffee.png").error is None


REFUSED_MAPS = {
    "a label of the model": (changed(model__labels=["green", "red", "blue"]), "lacks 'blue'"),
    "a label of another": (
        changed(labels={"green": "safe", "red": "illegal_risk", "blue": "safe"}),
        "has 'blue', which the model does not",
    ),
    "two labels of one name": (changed(model__labels=["red", "red", "green"]), "several labels of the name 'red'"),
    "too many labels": (
        changed(model__labels=["green", "red", "x"], labels={"green": "safe", "red": "illegal_risk", "x": "safe"}),
        r"output out has shape \['any', 2\], but the map makes it \['any', 3\]",
    ),
    "no such category": (changed(labels={"green": "safe", "red": "nudity"}), "'nudity' is not in taxonomy"),
    "all harmless": (changed(labels={"green": "safe", "red": "safe"}), "at least one risk"),
    "nothing harmless": (changed(labels={"green": "privacy", "red": "privacy"}), "no label is `safe`"),
    "no licence": (changed(license=None), "states no license"),
    "no claim": (changed(coverage={}), r"\[coverage\] names nothing, but the labels mean 'illegal_risk'"),
    "an empty claim": (changed(coverage={"illegal_risk": " "}), "says nothing of 'illegal_risk'"),
    "no levels": (changed(levels={}), r"\[levels\] names nothing"),
    "falling cuts": (changed(levels={"illegal_risk": {"medium": 0.8, "high": 0.5}}), "they rise within"),
    "thresholds of another": (
        changed(thresholds={"any": 0.5, "categories": {"privacy": 0.5}}),
        r"\[thresholds.categories\] names 'privacy'",
    ),
    "no preprocessing": (changed(preprocessing=None), r"needs \[preprocessing\]"),
    "no order": (changed(model__labels=None), r"\[model\] needs `labels`"),
    "another size": (changed(preprocessing__crop=[4, 4]), r"has shape \['any', 8, 8, 3\], but .*\['any', 4, 4, 3\]"),
    "another layout": (changed(preprocessing__layout="NCHW"), r"but the map makes it \['any', 3, 8, 8\]"),
    "nearest": (changed(preprocessing__resample="nearest"), "hide content"),
    "a large crop": (changed(preprocessing__crop=[11, 8]), "lies within height and width"),
    "an unknown key": (changed(model__threshold=0.5), "unknown field `threshold`"),
    "an unknown output": (changed(model__output="y"), "no output 'y'.*one of out"),
    "twice the activation": (changed(model__outputs="logits"), "second one would flatten"),
}


@pytest.mark.parametrize("case", REFUSED_MAPS)
def test_a_map_that_does_not_fit_is_refused(case: str, export: Callable[..., Path], tmp_path: Path) -> None:
    found, message = REFUSED_MAPS[case]
    with pytest.raises(LabelMapError, match=message):
        export(classifier(), found)
    assert not (tmp_path / "bundle").exists()


def test_outputs_that_are_no_probabilities_are_refused(export: Callable[..., Path]) -> None:
    with pytest.raises(LabelMapError, match="says probabilities, but outputs reach from"):
        export(classifier(None))
    with pytest.raises(LabelMapError, match=r"sum to .* instead of 1"):
        export(classifier("Sigmoid"))


def external(model: onnx.ModelProto) -> onnx.ModelProto:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return model


def foreign(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.node[0].domain = "ai.example"
    model.opset_import.append(helper.make_opsetid("ai.example", 1))
    return model


def hard_coded(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph that claims any batch and reshapes to one image."""
    model.graph.node[-1].input[0] = "flat"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2], np.int64), "one"))
    model.graph.node.insert(2, helper.make_node("Reshape", ["logits", "one"], ["flat"]))
    return model


def fixed_inside(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph that claims any size and needs another."""
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 9, 9, 3), np.float32), "bias"))
    model.graph.node[0].input[0] = "moved"
    model.graph.node.insert(0, helper.make_node("Add", ["image:0", "bias"], ["moved"]))
    return model


REFUSED_MODELS = {
    "external data": (lambda: external(classifier()), "data lie outside the graph; export the model as one"),
    "foreign operators": (lambda: foreign(classifier()), "operator domain 'ai.example'"),
    "uint8 input": (lambda: classifier(dtype=TensorProto.UINT8), "UINT8; FLOAT"),
    "a batch of four": (lambda: classifier(batch=4), "takes 4 images at a time"),
    "a hard-coded batch": (lambda: hard_coded(classifier()), "takes one alone .*fix its batch to 1"),
    "a hidden size": (lambda: fixed_inside(classifier(side="any")), r"does not run on an input of \(1, 8, 8, 3\)"),
    "no ONNX at all": (lambda: b"GIF89a", "refused"),
    "an old operator set": (lambda: classifier(opset=8), "9 or newer"),
}


@pytest.mark.parametrize("case", REFUSED_MODELS)
def test_a_model_that_no_bundle_may_hold_is_refused(case: str, export: Callable[..., Path], tmp_path: Path) -> None:
    make, message = REFUSED_MODELS[case]
    with pytest.raises(ExportError, match=message):
        export(make())
    assert not (tmp_path / "bundle").exists()


def test_a_file_of_another_digest_is_refused(export: Callable[..., Path]) -> None:
    pinned = changed(model__sha256=digest(b"the file that the map was written for"))
    with pytest.raises(ExportError, match=r"its digest is sha256:.*get that"):
        export(classifier(), pinned)


def test_real_images_are_asked_for(export: Callable[..., Path]) -> None:
    with pytest.raises(ExportError, match="--calibration-data is missing"):
        export(classifier(), calibration_data=None)


def test_the_command_takes_a_model_or_a_checkpoint(export: Callable[..., Path], photos: Path, tmp_path: Path) -> None:
    export(classifier())
    model = ["--from-onnx", str(tmp_path / "model.onnx")]
    labels = ["--labels", str(tmp_path / "map.toml")]
    out, data = str(tmp_path / "by-command"), ["--calibration-data", str(photos)]
    done = CliRunner().invoke(app, ["export", *model, *labels, *data, out])
    assert done.exit_code == 0, done.output
    assert "covers illegal_risk: Red things." in done.output
    assert "0 flips" in done.output
    for wrong, said in (
        ([*model, out], "--labels is missing"),
        ([*labels, out, out], "--labels belongs to"),
        ([*model, *labels, out, out], "OUT needed"),
        ([out], "CHECKPOINT and OUT needed"),
        ([*model, *labels, "--from-hf", "a/b", out], "not both"),
    ):
        done = CliRunner().invoke(app, ["export", *wrong])
        assert done.exit_code == 2
        assert said in " ".join(done.output.split())


def test_the_recipe_of_open_nsfw_fits_a_model_of_its_interface(photos: Path, tmp_path: Path) -> None:
    """The weights are no part of the tests; benchmarks/open_nsfw.py compares the bundle with their package."""
    data = classifier(side=224).SerializeToString()
    (tmp_path / "model.onnx").write_bytes(data)
    text = re.sub(r"sha256:[0-9a-f]{64}", digest(data), RECIPE.read_text())
    (tmp_path / "map.toml").write_text(text)
    options = ExportOptions(calibration_data=photos)
    report = export_from_onnx(tmp_path / "model.onnx", tmp_path / "map.toml", tmp_path / "bundle", options)
    assert report.manifest.license == "BSD-2-Clause"
    assert "covers illegal_risk: Nudity" in report.render()
    with Image.open(photos / "coffee.png") as photo:
        resized = np.asarray(
            photo.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR).crop((16, 16, 240, 240))
        )
    pixels = resized[:, :, ::-1].astype(np.float32) - np.array([104, 117, 123], dtype=np.float32)
    p = onnxruntime.InferenceSession(data).run(None, {"image:0": pixels[None]})[0][0][1]
    assert judged(tmp_path / "bundle", photos / "coffee.png").score == pytest.approx(p, abs=1e-5)


def test_a_classifier_has_no_grid_and_no_attention(export: Callable[..., Path]) -> None:
    manifest = read_bundle(export(classifier())).manifest
    with pytest.raises(ValueError, match="belong together"):
        msgspec.structs.replace(manifest.identity, grid=(1, 1))
    attention = TensorSpec(name="attention", dtype="float32", shape=("batch", 1))
    graph = msgspec.structs.replace(manifest.graphs[0], outputs=(*manifest.graphs[0].outputs, attention))
    with pytest.raises(BundleGraph, match="neither tap nor grid, so there is no attention"):
        check_graph(manifest, graph)
