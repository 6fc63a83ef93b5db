"""One bundle, many images: verdicts, batches, threads, features, and what is loaded and opened."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from safevlm_runtime import Runtime
from safevlm_runtime.backends.ort_backend import _check_packages
from safevlm_runtime.bundle.verify import describe, verify_bundle
from safevlm_sdk.errors import (
    BundleDigest,
    BundleError,
    BundleMissing,
    BundleUncalibrated,
    PolicyError,
    PolicyUncovered,
    ProviderError,
)
from safevlm_sdk.features import VisionFeatures
from safevlm_sdk.policy import Action, parse_policy
from safevlm_sdk.taxonomy import RiskLevel

TOWER = "sha256:" + "0" * 64
RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)


def said(verdict):
    return verdict.action, verdict.category, verdict.level, verdict.error, verdict.reason, verdict.raster_sha256


def encoded(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def features(array, **changes):
    values = {"array": array, "grid": (4, 4), "tower_digest": TOWER, "tap": "hidden:-1", "raster_sha256": "r"}
    return VisionFeatures(**(values | changes))


@pytest.fixture
def runtime(bundle):
    with Runtime.load(bundle) as loaded:
        yield loaded


def test_a_verdict_says_everything(runtime, paint, tmp_path):
    path = tmp_path / "blue.png"
    path.write_bytes(encoded(paint(*BLUE)))
    verdict = runtime.check(path)
    assert (verdict.action, verdict.category, verdict.level) == (Action.BLOCK, "privacy", RiskLevel.MEDIUM)
    assert verdict.score > 0.99
    assert verdict.error is None
    assert verdict.provider == runtime.provider == "CPUExecutionProvider"
    assert verdict.covered == runtime.covered == ("illegal_risk", "privacy")
    assert set(verdict.timings_ms) == {"decode", "preprocess", "infer", "decide", "total"}
    assert verdict.bundle_digests == runtime.digests
    assert verdict.policy_digests == (runtime.policies[0].digest,)
    assert verdict.heatmap().shape == (4, 4)
    assert verdict.heatmap().sum() == pytest.approx(1)


def test_every_kind_of_input_gives_one_verdict(runtime, paint, tmp_path):
    pixels = paint(*RED)
    data = encoded(pixels)
    (tmp_path / "a").write_bytes(data)
    inputs = [pixels, data, io.BytesIO(data), Image.fromarray(pixels), tmp_path / "a", str(tmp_path / "a")]
    assert len({said(runtime.check(image)) for image in inputs}) == 1
    assert said(runtime.check_frame(pixels)) == said(runtime.check(pixels))
    assert said(asyncio.run(runtime.acheck(data))) == said(runtime.check(data))


def test_many_are_judged_as_one_by_one(runtime, paint):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (8 + n, 20, 3), dtype=np.uint8) for n in range(20)]
    images[3:3] = [b"no image", paint(*BLUE), "missing.png"]
    many = runtime.check_many(iter(images), batch_size=5)
    alone = [runtime.check(image) for image in images]
    assert [said(verdict) for verdict in many] == [said(verdict) for verdict in alone]
    for one, other in zip(many, alone, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-6)
    assert runtime.check_many([]) == []
    with pytest.raises(ValueError, match="batch_size"):
        runtime.check_many([], batch_size=0)


def test_thirty_two_threads_get_the_sequential_verdicts(runtime):
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) // 2 for _ in range(40)]
    for number, image in enumerate(images):
        image[:, :, number % 3] += 120
    wanted = [said(runtime.check(image)) for image in images]
    assert len({verdict[1] for verdict in wanted}) == 3
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda n: said(runtime.check(images[n % 40])), range(640)))
    assert found == [wanted[n % 40] for n in range(640)]


def test_every_frame_and_background_is_judged(maker, tmp_path, paint):
    maker.policy = maker.policy.replace(b'uncovered = "allow"', b'uncovered = "allow"\nframes = "all"')
    maker.thresholds = 0.9  # black, grey and white are undecided, and not flagged
    frames = [Image.fromarray(paint(*rgb)) for rgb in (GREEN, RED, GREEN)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    with Runtime.load(maker.write(tmp_path / "all")) as runtime:
        verdict = runtime.check(buffer.getvalue())
        assert verdict.category == "illegal_risk"
        assert verdict.reason.startswith("frame 2: illegal_risk")
        hidden = np.dstack([paint(*BLUE), np.zeros((32, 32), np.uint8)])
        shown = runtime.check(encoded(hidden))
        assert shown.category == "privacy"
        assert shown.reason.startswith("alpha dropped: ")


def test_one_frame_is_the_default(runtime, paint):
    buffer = io.BytesIO()
    frames = [Image.fromarray(paint(*rgb)) for rgb in (GREEN, RED)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert runtime.check(buffer.getvalue()).error == "image_multi_frame"


def test_features_are_judged_with_their_mask(runtime):
    array = np.zeros((16, 3), np.float32)
    array[:8, 1] = 1
    array[8:, 0] = 1
    first = np.arange(16) < 8
    assert runtime.check_features(features(array), first).category == "safe"
    assert runtime.check_features(features(array), ~first).category == "illegal_risk"
    assert runtime.check_features(features(array), first).heatmap().shape == (4, 4)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda n: runtime.check_features(features(array), ~first).category, range(64)))
    assert set(found) == {"illegal_risk"}


@pytest.mark.parametrize(
    ("changes", "mask"),
    [
        ({"tap": "projected"}, None),
        ({"tower_digest": "sha256:" + "1" * 64}, None),
        ({"grid": (4, 5)}, None),
        ({"array": np.zeros((16, 4), np.float32)}, None),
        ({"array": np.zeros((16, 3), np.float64)}, None),
        ({"array": np.full((16, 3), np.nan, np.float32)}, None),
        ({}, np.zeros(16, np.bool_)),
        ({}, np.ones(16)),
        ({}, np.ones(15, np.bool_)),
    ],
)
def test_foreign_features_are_a_failed_verdict(runtime, changes, mask):
    verdict = runtime.check_features(features(**({"array": np.zeros((16, 3), np.float32)} | changes)), mask)
    assert (verdict.error, verdict.action) == ("features_mismatch", Action.BLOCK)


def test_bundles_decide_for_themselves_and_the_worst_wins(maker, bundle, tmp_path, paint):
    maker.name, maker.labels = "second", ("privacy", "safe")
    maker.policy = maker.policy.split(b"[actions.illegal")[0].replace(b'"block"', b'"caution"')
    second = maker.write(tmp_path / "second")
    with Runtime.load(second) as alone:
        assert alone.check(paint(*BLUE)).action is Action.CAUTION
    with Runtime.load(second, bundle) as runtime:
        verdict = runtime.check(paint(*BLUE))
        assert runtime.bundles == ("second", "colours")
    assert verdict.action is Action.BLOCK
    assert verdict.reason.startswith("colours: privacy")
    assert set(verdict.categories) == {"second/privacy", "colours/privacy", "illegal_risk"}
    with pytest.raises(BundleError, match="only once"):
        Runtime.load(bundle, bundle)


def policy(uncovered, category="fairness"):
    levels = f'[actions.{category}]\nlow = "block"\nmedium = "block"\nhigh = "block"\n'
    privacy = levels.replace(category, "privacy")
    return parse_policy(f'schema = 1\nname = "p"\nuncovered = "{uncovered}"\n{levels}{privacy}')


def test_what_is_not_covered_is_said(bundle, paint):
    with Runtime.load(bundle, policy=policy("allow")) as runtime:
        verdict = runtime.check(paint(*GREEN))
        assert (verdict.action, verdict.uncovered) == (Action.ALLOW, ("fairness",))
    with Runtime.load(bundle, policy=policy("caution")) as runtime:
        verdict = runtime.check(paint(*GREEN))
        assert (verdict.action, verdict.category) == (Action.CAUTION, "safe")
        assert "not looked for: fairness" in verdict.reason
        assert runtime.check(paint(*BLUE)).action is Action.BLOCK
    with pytest.raises(PolicyUncovered, match="fairness"):
        Runtime.load(bundle, policy=policy("refuse"))
    with pytest.raises(PolicyError, match="privcy"):
        Runtime.load(bundle, policy=policy("allow", "privcy"))


def test_loading_refuses_by_name(maker, bundle, tmp_path):
    with pytest.raises(ProviderError, match="CUDAExecutionProvider is not available"):
        Runtime.load(bundle, provider="cuda")
    with pytest.raises(ProviderError, match="unknown"):
        Runtime.load(bundle, provider="NoSuchProvider")
    with pytest.raises(BundleDigest):
        Runtime.load(bundle, digest="sha256:" + "1" * 64)
    with pytest.raises(BundleDigest, match="2 digests for 1"):
        Runtime.load(bundle, digest=["a", "b"])
    with pytest.raises(BundleError, match="no bundle was given"):
        Runtime.load()
    with pytest.raises(BundleMissing):
        Runtime.load(tmp_path / "none")
    with pytest.raises(BundleError, match="precision 'int8'"):
        Runtime.load(bundle, precision="int8")
    maker.proof = "numeric"
    numeric = maker.write(tmp_path / "numeric")
    with pytest.raises(BundleUncalibrated):
        Runtime.load(numeric)
    Runtime.load(numeric, allow_uncalibrated=True).close()


def test_two_installed_runtimes_are_one_line_with_the_command_that_mends_it(monkeypatch):
    monkeypatch.setattr("safevlm_runtime.backends.ort_backend._installed", lambda name: True)
    with pytest.raises(ProviderError, match="pip uninstall -y onnxruntime onnxruntime-gpu && pip install"):
        _check_packages()


def test_a_closed_runtime_fails_closed(bundle, paint):
    runtime = Runtime.load(bundle)
    runtime.close()
    for verdict in (
        runtime.check(paint(*GREEN)),
        runtime.check_frame(paint(*GREEN)),
        runtime.check_features(features(np.ones((16, 3), np.float32))),
    ):
        assert (verdict.error, verdict.action) == ("engine_failed", Action.BLOCK)


def test_isolated_decoding_gives_the_same_verdict(bundle, runtime, paint):
    data = encoded(paint(*BLUE))
    with Runtime.load(bundle, isolate_decoding=True) as isolated:
        assert said(isolated.check(data)) == said(runtime.check(data))
        assert isolated.check(b"x").error == "image_format"


def test_verifying_and_describing(bundle):
    report = verify_bundle(bundle)
    assert {graph.id for graph in report.graphs} == {"gate.fp32", "safety_head.fp32"}
    assert all(graph.max_error["type_logits"] < 1e-4 for graph in report.graphs)
    assert "reproduces its golden decisions" in report.render()
    from safevlm_runtime.bundle.reader import read_bundle

    assert describe(read_bundle(bundle))["manifest"]["digest"] == report.digest


SCRIPT = """
import os, sys, safevlm_runtime
assert "onnxruntime" not in sys.modules and "numpy" not in sys.modules
from safevlm_runtime import Runtime
import numpy as np
folder, opened, watching = sys.argv[1], [], False
def hook(event, args):
    if watching and event == "open":
        opened.append(str(args[0]))
sys.addaudithook(hook)
image = np.zeros((32, 32, 3), np.uint8); image[..., 2] = 250
Runtime.load(folder).check(image)
watching = True
runtime = Runtime.load(folder)
watching = False
listed = {"manifest.json", "graphs", "gate.fp32.onnx", "safety_head.fp32.onnx"}
listed |= {"golden.npz", "policy.toml", "README.md"}
assert {os.path.basename(name) for name in opened} <= listed | {os.path.basename(folder)}, opened
opened.clear()
before = runtime.check(image)
for root, _, names in os.walk(folder):
    for number, name in enumerate(sorted(names)):
        path = os.path.join(root, name)
        if number % 3 == 0: os.truncate(path, 0)
        elif number % 3 == 1: open(path, "r+b").write(b"overwritten" * 20)
        else: os.replace(path, path + ".gone")
watching = True
after = [runtime.check(image) for _ in range(20)]
watching = False
assert not opened, opened
assert {(v.category, v.score, v.error) for v in after} == {("privacy", before.score, None)}
assert not {"torch", "transformers", "onnx", "safevlm_training", "safevlm_export"} & set(sys.modules)
"""


def test_nothing_heavy_is_loaded_and_nothing_is_opened_after_loading(bundle):
    script = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(bundle)]
    done = subprocess.run(script, capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}, check=False)
    assert done.returncode == 0, done.stderr
