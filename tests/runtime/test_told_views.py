"""A verdict tells what every frame, background and tile calls for by itself, and which of them decides."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from safevlm_runtime import Runtime
from safevlm_sdk.judged_view import MAX_TOLD_VIEWS
from safevlm_sdk.policy import Action

GREEN, BLUE, RED = (0, 250, 0), (0, 0, 250), (250, 0, 0)  # safe, privacy, illegal_risk


@pytest.fixture
def all_frames(maker):
    maker.policy = maker.policy.replace(b'uncovered = "allow"', b'uncovered = "allow"\nframes = "all"')
    return maker


def animation(*frames):
    pictures, buffer = [Image.fromarray(pixels) for pixels in frames], io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:])
    return buffer.getvalue()


def decisive(verdict):
    (found,) = [view for view in verdict.views if view.decides]
    return found


def test_a_single_picture_is_one_view(bundle, paint):
    with Runtime.load(bundle) as runtime:
        verdict = runtime.check(paint(*BLUE))
    (view,) = verdict.views
    assert (view.frame, view.background, view.box, view.decides) == (1, None, None, True)
    assert (view.action, view.category, view.level, view.score) == (
        verdict.action, verdict.category, verdict.level, verdict.score
    )  # fmt: skip
    assert (view.bundle, verdict.views_judged) == (runtime.bundles[0], 1)
    assert view.to_dict() == {
        "bundle": view.bundle, "frame": 1, "background": None, "box": None, "action": "block", "category": "privacy",
        "level": int(view.level), "score": view.score, "error": None, "decides": True,
    }  # fmt: skip


def test_every_frame_of_an_animation_is_told(all_frames, tmp_path, paint):
    frames = [paint(*GREEN), paint(*BLUE), paint(0, 230, 0), paint(*RED)]
    with Runtime.load(all_frames.write(tmp_path / "all")) as runtime:
        verdict = runtime.check(animation(*frames))
        alone = [runtime.check(pixels) for pixels in frames]
    assert [view.frame for view in verdict.views] == [1, 2, 3, 4]
    assert [view.category for view in verdict.views] == ["safe", "privacy", "safe", "illegal_risk"]
    assert [view.action for view in verdict.views] == [one.action for one in alone]
    assert verdict.reason.startswith(f"frame {decisive(verdict).frame}: {verdict.category}")


def test_tiles_are_told_in_pixels_of_the_raster(all_frames, tmp_path):
    all_frames.tile, all_frames.overlap, all_frames.max_views, all_frames.thresholds = 32, 8, 17, 0.95
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[40:, 40:, 2] = 255
    with Runtime.load(all_frames.write(tmp_path / "tiled")) as runtime:
        verdict = runtime.check(animation(np.zeros_like(pixels), pixels))
    assert [(view.frame, view.box is None) for view in verdict.views] == [
        (frame, tile == 0) for frame in (1, 2) for tile in range(10)
    ]
    assert decisive(verdict).box == verdict.region == (32, 32, 64, 64)
    assert decisive(verdict).frame == 2


def test_backgrounds_are_told(maker, tmp_path):
    maker.thresholds = 0.95
    clear = np.dstack([np.full((40, 60, 3), BLUE, np.uint8), np.zeros((40, 60), np.uint8)])
    with Runtime.load(maker.write(tmp_path / "bundle")) as runtime:
        verdict = runtime.check(Image.fromarray(clear))
    assert [view.background for view in verdict.views] == ["white", "black", "grey", "alpha-dropped"]
    assert decisive(verdict).background == "alpha-dropped"


def test_each_bundle_is_named_and_one_view_of_all_decides(maker, tmp_path, paint):
    maker.name = "first"
    first = maker.write(tmp_path / "first")
    maker.name, maker.thresholds = "second", 0.99999
    second = maker.write(tmp_path / "second")
    with Runtime.load(first, second) as runtime:
        verdict = runtime.check(paint(*BLUE))
    assert [(view.bundle, view.action, view.decides) for view in verdict.views] == [
        ("first", Action.BLOCK, True),
        ("second", Action.ALLOW, False),
    ]


def test_of_very_many_views_the_worst_are_told(all_frames, tmp_path):
    all_frames.tile, all_frames.max_views = 8, 17
    frames = [np.full((32, 32, 3), (0, 200 + number, 0), np.uint8) for number in range(20)]
    frames[19][24:, 24:] = BLUE
    with Runtime.load(all_frames.write(tmp_path / "many")) as runtime:
        verdict = runtime.check(animation(*frames))
    assert (len(verdict.views), verdict.views_judged) == (MAX_TOLD_VIEWS, 20 * 17)
    assert (decisive(verdict).frame, decisive(verdict).category) == (20, "privacy")
    places = [(view.frame, view.box is not None, (view.box or ())[1::-1]) for view in verdict.views]
    assert places == sorted(places)


def test_what_was_not_judged_has_no_views(bundle):
    with Runtime.load(bundle) as runtime:
        verdict = runtime.check(b"no image")
    assert (verdict.views, verdict.views_judged) == ((), 0)


def test_a_policy_that_observes_tells_what_each_view_calls_for(maker, tmp_path, paint):
    maker.policy = b'mode = "observe"\n' + maker.policy
    with Runtime.load(maker.write(tmp_path / "observing")) as runtime:
        verdict = runtime.check(paint(*BLUE))
    assert verdict.action is Action.ALLOW
    assert decisive(verdict).action is verdict.observed is Action.BLOCK
