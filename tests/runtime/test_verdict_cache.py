"""The cache of verdicts: what it may answer, and what it must not."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from safevlm_runtime import Runtime
from safevlm_runtime.backends.ort_backend import OrtBackend
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_runtime.judging.gate import open_gate
from safevlm_sdk.errors import OptionError
from safevlm_sdk.policy import Action, parse_policy

RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)
SOURCES = b"""
[sources.kiosk.thresholds]
privacy = 0.999999
"""


class Counted:
    """A real backend that counts the images it is given, and fails on demand."""

    def __init__(self, real):
        self.real, self.images, self.broken = real, 0, False
        self.provider = real.provider

    def run(self, inputs, outputs):
        self.images += len(inputs["pixel_values"])
        if self.broken:
            raise RuntimeError
        return self.real.run(inputs, outputs)

    def close(self):
        self.real.close()


@pytest.fixture
def cached(maker, tmp_path):
    """A function from a number of entries to a runtime and its backend, which has counted nothing yet."""
    made = []

    def make(entries, **changes):
        for name, value in changes.items():
            setattr(maker, name, value)
        backends = []

        def opener(*args):
            backends.append(Counted(OrtBackend.load(*args)))
            return backends[-1]

        gate = open_gate(read_bundle(maker.write(tmp_path / f"bundle-{len(made)}")), opener=opener)
        made.append(Runtime([gate], cache_entries=entries))
        backends[0].images = 0
        return made[-1], backends[0]

    yield make
    for runtime in made:
        runtime.close()


def encoded(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def said(verdict):
    plain = verdict.to_dict()
    return {key: value for key, value in plain.items() if key not in ("timings_ms", "cached", "source_sha256")}


def test_equal_pixels_are_judged_once_whatever_file_they_came_in(cached, paint):
    runtime, backend = cached(4)
    files = [
        encoded(paint(*BLUE)),
        encoded(paint(*BLUE), compress_level=0),
        encoded(paint(*BLUE), "WEBP", lossless=True),
    ]
    first, *others = [runtime.check(data) for data in files]
    assert (backend.images, first.cached) == (1, False)
    for data, verdict in zip(files[1:], others, strict=True):
        assert verdict.cached
        assert said(verdict) == said(first)
        assert verdict.source_sha256 != first.source_sha256
        assert verdict.timings_ms["infer"] == 0.0
        assert verdict.timings_ms["decode"] > 0.0
        assert np.array_equal(verdict.heatmap(), first.heatmap())
        assert verdict.to_dict()["cached"] is True
        assert runtime.raster(data).frames[0].sha256 == verdict.raster_sha256
    assert [one.cached for one in runtime.check_many([files[0], paint(*RED), files[1]])] == [True, False, True]
    assert backend.images == 2


def test_without_entries_nothing_is_kept(cached, paint):
    runtime, backend = cached(0)
    assert [runtime.check(paint(*BLUE)).cached for _ in range(3)] == [False] * 3
    assert backend.images == 3
    with pytest.raises(OptionError, match="room for -1"):
        cached(-1)


def test_the_one_not_asked_for_the_longest_goes(cached, paint):
    runtime, backend = cached(2)
    for colour, known in ((RED, False), (BLUE, False), (RED, True), (GREEN, False), (RED, True), (BLUE, False)):
        assert runtime.check(paint(*colour)).cached is known
    assert backend.images == 4


def test_pixels_that_show_on_another_background_only_are_other_pixels(cached):
    runtime, _ = cached(8, thresholds=0.9)
    hidden, plain = np.full((32, 32, 4), 255, np.uint8), np.full((32, 32, 4), 255, np.uint8)
    hidden[..., :3], hidden[..., 3], plain[..., 3] = BLUE, 0, 0
    first, second = runtime.check(encoded(plain)), runtime.check(encoded(hidden))
    assert not second.cached
    assert second.category == "privacy" != first.category
    assert runtime.check(encoded(hidden)).cached


def test_a_reload_a_source_and_a_return(cached, maker, paint):
    runtime, backend = cached(8, policy=maker.policy + SOURCES)
    assert runtime.check(paint(*BLUE)).action is Action.BLOCK
    assert runtime.check(paint(*BLUE), source="kiosk").cached is False
    assert runtime.check(paint(*BLUE), source="nobody-knows").cached
    old = runtime.policies[0]
    softer = parse_policy(maker.policy.decode().replace('medium = "block"', 'medium = "caution"', 1))
    runtime.reload_policy(softer)
    verdict = runtime.check(paint(*BLUE))
    assert (verdict.cached, verdict.action) == (False, Action.CAUTION)
    assert verdict.policy_digests == (softer.digest,)
    runtime.reload_policy(old)
    again = runtime.check(paint(*BLUE))
    assert (again.cached, again.action, again.policy_digests) == (True, Action.BLOCK, (old.digest,))
    assert backend.images == 3


def test_failures_are_never_kept_and_a_closed_runtime_answers_nothing(cached, paint):
    runtime, backend = cached(8)
    backend.broken = True
    assert runtime.check(paint(*GREEN)).error == "internal_error"
    backend.broken = False
    verdict = runtime.check(paint(*GREEN))
    assert (verdict.error, verdict.cached) == (None, False)
    assert runtime.check_frame(paint(*GREEN)).cached
    assert runtime.check(b"no image").error == runtime.check(b"no image").error == "image_format"
    runtime.close()
    for verdict in (runtime.check(paint(*GREEN)), runtime.check_frame(paint(*GREEN))):
        assert (verdict.error, verdict.action) == ("engine_failed", Action.BLOCK)


def test_what_a_gate_that_only_observes_failed_to_judge_is_not_kept(maker, tmp_path, paint):
    backends = []

    def opener(*args):
        backends.append(Counted(OrtBackend.load(*args)))
        return backends[-1]

    gates = []
    for name, policy in (("acts", maker.policy), ("observes", b'mode = "observe"\n' + maker.policy)):
        maker.policy = policy
        gates.append(open_gate(read_bundle(maker.write(tmp_path / name)), opener=opener))
    with Runtime(gates, cache_entries=8) as runtime:
        backends[1].broken = True
        runtime.check(paint(*BLUE))
        backends[1].broken = False
        verdict = runtime.check(paint(*BLUE))
        assert (verdict.cached, verdict.error, verdict.action) == (False, None, Action.BLOCK)
        assert runtime.check(paint(*BLUE)).cached


def test_nobody_can_change_what_is_kept(cached, paint):
    runtime, _ = cached(8)
    first = runtime.check(paint(*GREEN))
    first.categories["privacy"] = 0.9
    first.heatmap()[:] = 0
    second = runtime.check(paint(*GREEN))
    second.categories["privacy"] = 0.9
    with pytest.raises(ValueError, match="read-only"):
        second.heatmap()[:] = 0
    third = runtime.check(paint(*GREEN))
    assert third.cached
    assert third.categories["privacy"] < 0.5
    assert third.heatmap().sum() == pytest.approx(1)


def test_many_threads_get_the_sequential_verdicts(cached):
    runtime, backend = cached(3)
    images = [np.full((16, 16, 3), (0, 0, 0), np.uint8) for _ in range(8)]
    for number, image in enumerate(images):
        image[..., number % 3] = 100 + 10 * number
    wanted = [said(runtime.check(image)) for image in images]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: runtime.check(images[n * n % 8]), range(400)))
    assert [said(verdict) for verdict in found] == [wanted[n * n % 8] for n in range(400)]
    assert backend.images < 400
    assert any(verdict.cached for verdict in found)
