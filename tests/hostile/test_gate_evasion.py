"""Ways around a loaded gate that must stay closed."""

from __future__ import annotations

import io
import os
import threading
import time
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from PIL import Image

from safevlm_runtime import Runtime
from safevlm_runtime.backends.watchdog import Watchdog
from safevlm_sdk import Action, Policy, VisionFeatures
from safevlm_sdk.errors import ImageError, ManifestError, PolicyError
from safevlm_sdk.manifest import manifest_bytes, parse_manifest, sealed
from safevlm_sdk.policy import LevelActions
from safevlm_sdk.raster import Limits, decode

STRICT = LevelActions(low=Action.BLOCK, medium=Action.BLOCK, high=Action.BLOCK)


def policy(**changes):
    parts = {"schema": 1, "name": "p", "uncovered": "allow", "actions": {"privacy": STRICT, "illegal_risk": STRICT}}
    return Policy(**(parts | changes))


def test_no_sealed_manifest_makes_probabilities_that_are_no_numbers(bundle):
    manifest = parse_manifest((bundle / "manifest.json").read_bytes())
    calibration = msgspec.structs.replace(manifest.calibration)
    for temperature in (1e-320, 0.0, float("nan"), 1e300):
        plain = msgspec.to_builtins(manifest)
        plain["calibration"] = msgspec.to_builtins(calibration) | {"temperature": temperature}
        with pytest.raises((ManifestError, msgspec.ValidationError, ValueError)):
            parse_manifest(manifest_bytes(sealed(msgspec.convert(plain, type(manifest)))))


def test_a_second_bundle_does_not_blind_the_first(maker, tmp_path):
    fine = maker.write(tmp_path / "fine")
    maker.name, maker.raster_max_side = "coarse", 32
    coarse = maker.write(tmp_path / "coarse")
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, ::2, 2] = 255
    with Runtime.load(fine) as alone, Runtime.load(fine, coarse) as both:
        assert both.raster_max_side == alone.raster_max_side == 64
        single, together = alone.check(pixels), both.check(pixels)
    assert together.categories["colours/privacy"] == pytest.approx(single.categories["privacy"], abs=1e-6)
    assert together.action.severity >= single.action.severity


def test_a_policy_that_judges_nothing_is_refused(bundle):
    with pytest.raises(PolicyError, match="nothing would be judged"):
        Runtime.load(bundle, policy=policy(actions={"fairness": STRICT}))


def test_a_category_that_is_switched_off_is_not_called_looked_for(bundle, paint):
    with Runtime.load(bundle, policy=policy(actions={"illegal_risk": STRICT})) as runtime:
        verdict = runtime.check(paint(0, 0, 250))
    assert (verdict.covered, set(verdict.categories)) == (("illegal_risk",), {"illegal_risk"})


@pytest.mark.parametrize(
    "changes", [{"on_error": "allow"}, {"uncovered": "Refuse"}, {"frames": "al"}, {"mpo": ""}, {"schema": 2}]
)
def test_a_policy_built_in_python_is_checked_as_a_file_is(bundle, changes):
    with pytest.raises(PolicyError):
        Runtime.load(bundle, policy=policy(**changes))


def test_a_loaded_policy_cannot_be_changed(bundle, paint):
    mine = policy()
    with Runtime.load(bundle, policy=mine) as runtime:
        mine.actions.clear()
        runtime.policies[0].actions.clear()
        assert runtime.check(paint(250, 0, 0)).action is Action.BLOCK


def test_features_of_another_grid_are_refused(bundle):
    manifest = parse_manifest((bundle / "manifest.json").read_bytes())
    rows, columns = manifest.identity.grid
    good = VisionFeatures(
        array=np.zeros((rows * columns, manifest.identity.feature_width), np.float32),
        grid=(rows, columns),
        tower_digest=manifest.identity.tower_digest,
        tap=manifest.identity.tap,
        raster_sha256="0" * 64,
    )
    with Runtime.load(bundle) as runtime:
        assert runtime.check_features(good).error is None
        for grid in ((1, rows * columns), (-rows, -columns), (1, 1)):
            tokens = abs(grid[0] * grid[1])
            odd = replace(good, grid=grid, array=good.array[:tokens])
            assert runtime.check_features(odd).error == "features_mismatch"
        for wrong in (None, replace(good, array=good.array.tolist())):
            assert runtime.check_features(wrong).error == "features_mismatch"


def test_one_lazy_image_in_many_threads_is_read_frame_by_frame():
    frames = [Image.new("RGB", (64, 64), rgb) for rgb in ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255))]
    buffer = io.BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    image = Image.open(io.BytesIO(buffer.getvalue()))
    limits = Limits(frames="all")
    wanted = [frame.sha256 for frame in decode(buffer.getvalue(), limits=limits).frames]
    wrong = []

    def work():
        for _ in range(20):
            try:
                found = [frame.sha256 for frame in decode(image, limits=limits).frames]
            except ImageError as problem:
                found = problem
            if found != wanted:
                wrong.append(found)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_watchdog_survives_a_fork():
    class Run:
        terminate = False

    watchdog = Watchdog(0.05)
    with watchdog.watch(Run()):
        pass
    child = os.fork()
    if child == 0:
        run = Run()
        with watchdog.watch(run):
            deadline = time.monotonic() + 20
            while not run.terminate and time.monotonic() < deadline:
                time.sleep(0.01)
        os._exit(0 if run.terminate else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    watchdog.close()


def test_several_images_are_not_one_path(bundle):
    with Runtime.load(bundle) as runtime:
        for single in ("photo.jpg", b"bytes"):
            with pytest.raises(TypeError, match="list"):
                runtime.check_many(single)
