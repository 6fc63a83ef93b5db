"""Real checkpoints, exported, run by onnxruntime and judged by the runtime."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from safevlm_export.export import ExportOptions, export_checkpoint
from safevlm_export.proof_images import synthetic_images
from safevlm_export.to_onnx import METADATA_KEY
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_runtime.runtime import Runtime
from safevlm_sdk.bundle_card import bundle_card
from safevlm_sdk.command.app import app
from safevlm_sdk.decision import decide
from safevlm_sdk.errors import BundleUncalibrated, ExportError, PolicyError
from safevlm_sdk.features import VisionFeatures
from safevlm_sdk.policy import default_policy_text, parse_policy
from safevlm_sdk.preprocess import preprocess
from safevlm_sdk.taxonomy import Taxonomy
from safevlm_training.config import config_bytes, load_config

Cases = Callable[[str], Any]
ALL = ("clip-edge", "clip-paper", "vit-edge", "efficientnet-edge")
PIXELS = [pixels for _, pixels in synthetic_images()]
OWN_POLICY = b"""schema = 1
name = "own"
uncovered = "allow"
[actions.privacy]
low = "block"
medium = "block"
high = "block"
"""


def session(bundle: Path, role: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession((bundle / "graphs" / f"{role}.fp32.onnx").read_bytes())


def run(bundle: Path, role: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    graph = session(bundle, role)
    names = [output.name for output in graph.get_outputs()]
    return dict(zip(names, graph.run(names, inputs), strict=True))


@pytest.fixture(scope="module")
def by_command(case_of: Cases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that the command exported under options of its own; it must not be changed."""
    folder = tmp_path_factory.mktemp("command")
    (folder / "own.toml").write_bytes(OWN_POLICY)
    arguments = [case_of("vit-edge").checkpoint, folder / "bundle", "--policy", folder / "own.toml"]
    arguments += ["--name", "mine", "--license", "MIT", "--opset", "19"]
    done = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return folder / "bundle"


@pytest.mark.parametrize("name", ALL)
def test_the_gate_computes_what_pytorch_computes_at_any_batch_size(name: str, case_of: Cases) -> None:
    case = case_of(name)
    for size in (1, 3):
        pixels = np.stack([preprocess(raster, case.model.config.preprocessing) for raster in PIXELS[:size]])
        with torch.inference_mode():
            output, features = case.model(torch.from_numpy(pixels))
        expected = {field: getattr(output, field) for field in ("type_logits", "level_logprobs", "attention")}
        expected["features"] = features
        found = run(case.bundle, "gate", pixel_values=pixels)
        assert found.keys() == expected.keys()
        for key, values in expected.items():
            scale = max(1.0, float(values.detach().abs().max()))
            assert np.abs(found[key] - values.detach().numpy()).max() <= 1e-4 * scale, key


@pytest.mark.parametrize("name", ["clip-edge", "vit-edge"])
def test_the_safety_head_does_not_see_padding(name: str, case_of: Cases) -> None:
    case = case_of(name)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 11, case.model.config.feature_width)).astype(np.float32)
    padded = np.concatenate([features, np.full_like(features, 1e6)], axis=1)
    mask = np.arange(22)[None].repeat(3, axis=0) < 11
    short = run(case.bundle, "safety_head", features=features, mask=mask[:, :11])
    long = run(case.bundle, "safety_head", features=padded, mask=mask)
    with torch.inference_mode():
        reference = case.model.safety(torch.from_numpy(features))
    for key in ("type_logits", "level_logprobs"):
        np.testing.assert_allclose(long[key], short[key], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(short[key], getattr(reference, key).numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(long["attention"][:, :11], short["attention"], atol=1e-6)
    assert (long["attention"][:, 11:] == 0).all()


@pytest.mark.parametrize("name", ALL)
def test_the_runtime_judges_as_the_checkpoint_does(name: str, case_of: Cases) -> None:
    case = case_of(name)
    manifest = case.report.manifest
    with Runtime.load(case.bundle, allow_uncalibrated=name == "efficientnet-edge") as runtime:
        verdicts = [runtime.check(raster) for raster in PIXELS]
    for raster, verdict in zip(PIXELS, verdicts, strict=True):
        with torch.inference_mode():
            output, _ = case.model(torch.from_numpy(preprocess(raster, manifest.preprocessing)[None]))
        wanted = decide(
            output.type_logits[0].numpy(), output.level_logprobs[0].numpy(), manifest.rule, runtime.policies[0]
        )
        assert (verdict.error, verdict.category, verdict.level, verdict.action) == (
            None,
            wanted.category,
            wanted.level,
            wanted.action,
        )
        assert verdict.score == pytest.approx(wanted.score, abs=1e-4)
    if name != "efficientnet-edge":
        assert len({verdict.action for verdict in verdicts}) > 1


@pytest.mark.parametrize("name", ["clip-edge", "clip-paper"])
def test_features_of_the_gate_give_the_same_verdict_through_the_head(name: str, case_of: Cases) -> None:
    case = case_of(name)
    identity = case.report.manifest.identity
    tensor = preprocess(PIXELS[4], case.model.config.preprocessing)[None]
    features = run(case.bundle, "gate", pixel_values=tensor)["features"][0]
    given = VisionFeatures(
        array=features,
        grid=identity.grid,
        tower_digest=identity.tower_digest,
        tap=identity.tap,
        raster_sha256="0" * 64,
    )
    with Runtime.load(case.bundle) as runtime:
        through_head, through_gate = runtime.check_features(given), runtime.check(PIXELS[4])
    assert through_head.error is None
    assert through_head.category == through_gate.category
    assert through_head.score == pytest.approx(through_gate.score, abs=1e-4)


def test_an_uncalibrated_bundle_loads_only_when_asked_for(case_of: Cases) -> None:
    case = case_of("efficientnet-edge")
    assert case.report.manifest.proof.kind == "numeric"
    assert case.report.manifest.calibration.method == "none"
    with pytest.raises(BundleUncalibrated):
        Runtime.load(case.bundle)
    assert "not calibrated" in case.report.render()
    assert "allow_uncalibrated=True" in (case.bundle / "README.md").read_text()


def test_the_manifest_tells_the_checkpoint(case_of: Cases) -> None:
    case = case_of("clip-edge")
    manifest = case.report.manifest
    assert read_bundle(case.bundle).manifest == manifest
    assert manifest.proof.kind == "decisions"
    assert manifest.name == "clip-edge"
    assert manifest.license == "Apache-2.0"
    assert manifest.labels == ("privacy", "illegal_risk", "safe")
    assert manifest.calibration.temperature == 1.3
    assert manifest.thresholds.any == 0.6
    assert manifest.identity.tower == "tower-clip"
    assert manifest.view_plan.raster_max_side == case.model.config.raster_max_side
    for graph in manifest.graphs:
        proof = manifest.proof.graphs[graph.id]
        assert proof.images == 37
        assert proof.flips == 0
        assert all(proof.max_error[name] <= 1e-3 for name in ("type_logits", "level_logprobs"))
    golden = read_bundle(case.bundle).golden
    assert 1 <= len(golden.images) <= 16
    assert (case.bundle / "golden.npz").stat().st_size < 2**20
    assert not golden.mask.all(axis=1).any()


@pytest.mark.parametrize("name", ALL)
def test_nothing_tells_of_this_machine(name: str, case_of: Cases) -> None:
    case = case_of(name)
    secrets = [str(Path(__file__).parents[2]), str(case.bundle.parent), "site-packages", os.path.expanduser("~/")]
    traces = re.compile(rb"\.py\b|File \"|/tmp/|/home/")
    for file in case.bundle.rglob("*"):
        if file.is_file() and file.name != "golden.npz":
            data = file.read_bytes()
            assert not [secret for secret in secrets if secret.encode() in data], file.name
            if file.suffix == ".onnx":
                assert not traces.search(data)


def test_graphs_carry_their_identity_and_nothing_else(case_of: Cases) -> None:
    case = case_of("clip-edge")
    model = onnx.load_from_string((case.bundle / "graphs" / "gate.fp32.onnx").read_bytes())
    digest = case.report.manifest.identity.checkpoint_digest
    assert {prop.key: prop.value for prop in model.metadata_props} == {
        METADATA_KEY: f'{{"checkpoint":"{digest}","role":"gate"}}'
    }
    assert not model.functions
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_two_exports_are_equal_even_in_another_process(case_of: Cases, tmp_path: Path) -> None:
    case = case_of("clip-edge")
    script = (
        "import sys; from pathlib import Path\n"
        "import torch; torch.set_num_threads(1)\n"
        "from safevlm_export import ExportOptions, export_checkpoint\n"
        "options = ExportOptions(license='Apache-2.0')\n"
        "print(export_checkpoint(Path(sys.argv[1]), Path(sys.argv[2]), options).manifest.digest)\n"
    )
    root = Path(__file__).parents[2]
    path = os.pathsep.join(str(root / part) for part in (".", "runtime", "export", "training"))
    command = [sys.executable, "-W", "error", "-c", script, str(case.checkpoint), str(tmp_path / "again")]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == case.report.manifest.digest
    assert done.stderr == ""
    for file in case.bundle.rglob("*"):
        if file.is_file():
            assert (tmp_path / "again" / file.relative_to(case.bundle)).read_bytes() == file.read_bytes()


def test_export_is_silent_and_replaces_only_bundles(
    case_of: Cases, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint, out = case_of("vit-edge").checkpoint, tmp_path / "out"
    out.mkdir()
    (out / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(ExportError, match="holds other files"):
        export_checkpoint(checkpoint, out, ExportOptions())
    assert os.listdir(out) == ["holiday.jpg"]
    shutil.rmtree(out)
    shutil.copytree(case_of("vit-edge").bundle, out)
    assert export_checkpoint(checkpoint, out, ExportOptions(name="second")).manifest.name == "second"
    assert read_bundle(out).manifest.name == "second"
    assert os.listdir(tmp_path) == ["out"]
    assert capfd.readouterr() == ("", "")


def test_a_policy_of_ones_own_is_shipped_and_a_broken_one_stops_before_work(
    case_of: Cases, by_command: Path, tmp_path: Path
) -> None:
    assert (by_command / "policy.toml").read_bytes() == OWN_POLICY
    assert read_bundle(by_command).policy.name == "own"
    (tmp_path / "bad.toml").write_bytes(OWN_POLICY.replace(b"high", b"hgih"))
    checkpoint, out = case_of("vit-edge").checkpoint, tmp_path / "out"
    for broken in ("bad.toml", "missing.toml"):
        with pytest.raises(PolicyError, match=broken):
            export_checkpoint(checkpoint, out, ExportOptions(policy=tmp_path / broken))
    assert not out.exists()


def test_a_taxonomy_of_ones_own_ships_a_default_policy_for_it(case_of: Cases, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(case_of("vit-edge").checkpoint, checkpoint)
    config = load_config(checkpoint)
    known = {name: config.taxonomy.categories[name] for name in config.coverage}
    mine = Taxonomy(name="mine", categories=known)
    (checkpoint / "config.json").write_bytes(config_bytes(msgspec.structs.replace(config, taxonomy=mine)))
    export_checkpoint(checkpoint, tmp_path / "out", ExportOptions())
    assert (tmp_path / "out" / "policy.toml").read_bytes() == default_policy_text(mine)
    with Runtime.load(tmp_path / "out") as runtime:
        assert set(runtime.covered) == set(known)


def test_a_policy_that_no_bundle_could_be_loaded_with_stops_before_work(case_of: Cases, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()  # without weights: nothing is to be read but what it covers
    shutil.copyfile(case_of("vit-edge").checkpoint / "config.json", checkpoint / "config.json")
    actions = b'[actions.%s]\nlow = "block"\nmedium = "block"\nhigh = "block"\n'
    head = b'schema = 1\nname = "mine"\nuncovered = "refuse"\n'
    wrong: dict[str, tuple[bytes, ...]] = {
        r"nothing would be judged: the gate covers privacy.*pass --policy FILE": (b"politics",),
        r"names spam, and no taxonomy here has that.*take \[actions\.spam\] out": (b"privacy", b"spam"),
        "wants politics, which no loaded bundle covers": (b"privacy", b"politics"),
    }
    for message, names in wrong.items():
        (tmp_path / "mine.toml").write_bytes(head + b"".join(actions % name for name in names))
        with pytest.raises(PolicyError, match=message):
            export_checkpoint(checkpoint, tmp_path / "out", ExportOptions(policy=tmp_path / "mine.toml"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opset": 17}, "opset is 17"),
        ({"opset": onnx.defs.onnx_opset_version() + 1}, f"write 18 to {onnx.defs.onnx_opset_version()}"),
        ({"max_flips": -1}, "max_flips is -1"),
        ({"name": ""}, "name is empty"),
        ({"license": " "}, "license is empty"),
    ],
)
def test_options_out_of_range_stop_before_work(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        export_checkpoint(tmp_path / "no-checkpoint", tmp_path / "out", ExportOptions(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("inside", ["", "bundle", "deeper/bundle"])
def test_a_bundle_is_never_written_into_its_checkpoint(case_of: Cases, tmp_path: Path, inside: str) -> None:
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(case_of("vit-edge").checkpoint, checkpoint)
    (tmp_path / "link").symlink_to(checkpoint)
    for out in (checkpoint / inside, tmp_path / "link" / inside):
        with pytest.raises(ExportError, match="lies in the checkpoint"):
            export_checkpoint(checkpoint, out, ExportOptions())
    assert sorted(os.listdir(checkpoint)) == sorted(os.listdir(case_of("vit-edge").checkpoint))


def test_the_command_passes_every_option_on(by_command: Path) -> None:
    manifest = read_bundle(by_command).manifest
    assert (manifest.name, manifest.license) == ("mine", "MIT")
    opsets = onnx.load_from_string((by_command / "graphs" / "gate.fp32.onnx").read_bytes()).opset_import
    assert {one.domain: one.version for one in opsets}[""] == 19


def test_no_claim_breaks_the_table_of_the_card(case_of: Cases) -> None:
    manifest = case_of("vit-edge").report.manifest
    changed = msgspec.structs.replace(manifest, coverage={**manifest.coverage, "privacy": "IDs |\npassports."})
    assert "| `privacy` | IDs \\| passports. |" in bundle_card(changed, parse_policy(default_policy_text()))
