"""Where one gate or one batch of views fails, what the others found stands."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from safevlm_runtime import Runtime
from safevlm_runtime.backends.ort_backend import OrtBackend
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_runtime.judging.gate import open_gate
from safevlm_sdk.features import VisionFeatures
from safevlm_sdk.policy import Action

RED, GREEN = (250, 0, 0), (0, 250, 0)
LENIENT = b'uncovered = "allow"\non_error = "caution"\nframes = "all"'


class Failing:
    """A real backend that fails from a run on that it is told, and counts its runs."""

    def __init__(self, real):
        self.real, self.provider, self.good = real, real.provider, None

    def run(self, inputs, outputs):
        if self.good is not None:
            self.good -= 1
            if self.good < 0:
                raise RuntimeError
        return self.real.run(inputs, outputs)

    def close(self):
        self.real.close()


@pytest.fixture
def load(maker, tmp_path):
    """Loads bundles of these names, under what their policies say; gives a runtime and its backends as they open."""
    made, text = [], maker.policy

    def load(**policies):
        backends, gates = [], []

        def opener(*args):
            backends.append(Failing(OrtBackend.load(*args)))
            return backends[-1]

        for name, said in policies.items():
            maker.name, maker.policy = name, text.replace(b'uncovered = "allow"', said)
            gates.append(open_gate(read_bundle(maker.write(tmp_path / name)), opener=opener))
        made.append(Runtime(gates))
        return made[-1], backends

    yield load
    for runtime in made:
        runtime.close()


@pytest.mark.parametrize("broken", [0, 1])
def test_a_bundle_that_fails_does_not_undo_what_another_found(load, paint, broken):
    runtime, backends = load(one=LENIENT, other=LENIENT)
    backends[broken].good = 0
    verdict = runtime.check(paint(*RED))
    assert (verdict.error, verdict.action) == ("internal_error", Action.BLOCK)
    assert verdict.refusal
    assert [view.action for view in verdict.views].count(Action.BLOCK) == 1
    assert runtime.check(paint(*GREEN)).action is Action.CAUTION
    found = runtime.check_many([paint(*RED), paint(*GREEN)])
    assert [one.action for one in found] == [Action.BLOCK, Action.CAUTION]


def test_views_that_fail_do_not_undo_what_others_show(load, paint):
    runtime, (backend,) = load(one=LENIENT)
    shades = [RED, *((0, 200 + shade, 0) for shade in range(11))]
    frames, buffer = [Image.fromarray(paint(*rgb)) for rgb in shades], io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    assert runtime.check(buffer.getvalue()).error is None
    backend.good = 1
    verdict = runtime.check(buffer.getvalue())
    assert (verdict.error, verdict.action, verdict.views_judged) == ("internal_error", Action.BLOCK, 12)
    assert [view.error is None for view in verdict.views] == [True] * 8 + [False] * 4


def test_features_that_a_bundle_fails_on_do_not_undo_what_another_found(load):
    runtime, backends = load(one=LENIENT, other=LENIENT)
    source = runtime.feature_sources[0]
    array = np.zeros((16, 3), np.float32)
    array[:, 0] = 1
    seen = VisionFeatures(
        array=array, grid=source.grid, tower_digest=source.tower_digest, tap=source.tap, raster_sha256="r"
    )
    assert runtime.check_features(seen).action is Action.BLOCK
    backends[3].good = 0
    verdict = runtime.check_features(seen)
    assert (verdict.error, verdict.action) == ("internal_error", Action.BLOCK)


def test_a_bundle_that_observes_does_not_act_by_failing(load, paint):
    runtime, backends = load(acts=b'uncovered = "allow"', trial=b'uncovered = "allow"\nmode = "observe"')
    backends[1].good = 0
    verdict = runtime.check(paint(*GREEN))
    assert (verdict.error, verdict.action, verdict.observed) == ("internal_error", Action.ALLOW, Action.BLOCK)
    assert runtime.check(paint(*RED)).action is Action.BLOCK
