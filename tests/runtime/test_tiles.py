"""Overview and tiles: no pixel is left out, wherever the risky part lies and whatever shape the picture has."""

from __future__ import annotations

import io
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from safevlm_runtime import Runtime
from safevlm_runtime.backends.ort_backend import OrtBackend
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_runtime.judging.gate import open_gate
from safevlm_runtime.judging.tiles import scaled_box, tile_boxes
from safevlm_sdk.errors import BundleSelfTest, ImageTooManyViews
from safevlm_sdk.features import VisionFeatures
from safevlm_sdk.manifest import parse_manifest
from safevlm_sdk.policy import Action
from safevlm_sdk.view_plan import ViewPlan

BLOCK = 32
SIZES = [
    (width, height)
    for width in (8, 31, 97, 128, 129, 300, 640, 1024)
    for height in (8, 31, 97, 128, 129, 300, 640, 1024)
    if max(width, height) <= 20 * min(width, height)
]
LARGE = [(12_000, 600), (600, 12_000), (3_000, 2_600)]
SIDES = st.integers(1, 3_000)


def plan(tile=128, overlap=BLOCK, max_views=1_024, raster_max_side=12_000):
    return ViewPlan(raster_max_side=raster_max_side, tile=tile, overlap=overlap, max_views=max_views)


@settings(max_examples=300, deadline=None)
@given(SIDES, SIDES, st.integers(2, 700), st.data(), st.booleans())
def test_tiles_cover_every_pixel_and_overlap_as_promised(width, height, tile, data, square):
    overlap = data.draw(st.integers(0, tile - 1))
    try:
        boxes = tile_boxes((width, height), plan(tile, overlap), square=square)
    except ImageTooManyViews:
        return
    across, down = (sorted({box[at::2] for box in boxes} or {(0, side)}) for at, side in ((0, width), (1, height)))
    for intervals, length in ((across, width), (down, height)):
        assert (intervals[0][0], intervals[-1][1]) == (0, length)
        sides = {end - start for start, end in intervals}
        assert len(sides) == 1
        side = sides.pop()
        assert side <= max(tile, length if not boxes else 0)
        for (_, end), (start, _) in pairwise(intervals):
            assert end - start >= (overlap * side // tile if square else overlap)
    assert not boxes or len(boxes) == len(across) * len(down)
    if square and boxes:
        assert {(right - left) == (bottom - top) for left, top, right, bottom in boxes} == {True}
    if not boxes:
        assert width <= tile
        assert height <= tile


@pytest.mark.parametrize(
    ("size", "square"),
    [(size, False) for size in [*SIZES, *LARGE]] + [(size, True) for size in SIZES if min(size) >= 128],
)
def test_a_block_lies_whole_in_some_tile_wherever_it_is(size, square):
    """Every placement, one pixel apart; columns and rows do not depend on each other."""
    boxes = tile_boxes(size, plan(), square=square) or [(0, 0, *size)]
    for at in (0, 1):
        side = boxes[0][at + 2] - boxes[0][at]
        starts = {box[at] for box in boxes}
        block = min(BLOCK, size[at])
        for left in range(size[at] - block + 1):
            assert any(start <= left and left + block <= start + side for start in starts), (left, starts)


def test_too_many_tiles_are_refused_and_never_thinned():
    assert len(tile_boxes((512, 512), plan(max_views=26), square=False)) == 25
    with pytest.raises(ImageTooManyViews, match="512 x 512, takes 26 views of tile 128 and overlap 32; up to 25"):
        tile_boxes((512, 512), plan(max_views=25), square=False)
    with pytest.raises(ImageTooManyViews, match="takes"):
        tile_boxes((12_000, 600), plan(tile=2, overlap=1), square=False)


def test_a_box_of_a_scaled_picture_holds_its_pixels():
    assert scaled_box((1, 0, 2, 3), (3, 3), (10, 9)) == (3, 0, 7, 9)
    assert scaled_box((5, 6, 7, 8), (64, 32), (64, 32)) == (5, 6, 7, 8)


@pytest.mark.parametrize(
    "changes", [{"overlap": 128}, {"max_views": 1}, {"tile": 0, "overlap": 0}, {"tile": None}, {"max_views": 10**6}]
)
def test_a_plan_that_means_nothing_is_refused(changes):
    with pytest.raises(ValueError, match="view_plan"):
        plan(**changes)


class Marker:
    """A backend whose `illegal_risk` grows with the share of red in what it is shown, once it is armed."""

    provider = "CPUExecutionProvider"

    def __init__(self, real):
        self.real, self.armed, self.runs = real, False, []

    def run(self, inputs, outputs):
        if not self.armed:
            return self.real.run(inputs, outputs)
        shown = inputs["pixel_values"]
        self.runs.append(len(shown))
        red = shown[:, 0].mean(axis=(1, 2))
        found = {
            "type_logits": np.stack([400 * red - 10, 0 * red, 0 * red + 4], axis=1),
            "level_logprobs": np.tile(np.log([0.1, 0.1, 0.1, 0.7]), (len(shown), 1)),
            "attention": np.full((len(shown), 16), 1 / 16),
        }
        return {name: found[name].astype(np.float32) for name in outputs}

    def close(self):
        self.real.close()


@pytest.fixture
def marked(maker, tmp_path):
    """A runtime of tiles that sees a red block in a tile of 128 and not in a much larger picture, and its backend."""
    maker.tile, maker.overlap, maker.max_views, maker.raster_max_side = 128, BLOCK, 1_024, 12_000
    markers = []

    def opener(*args):
        markers.append(Marker(OrtBackend.load(*args)))
        return markers[-1]

    with Runtime([open_gate(read_bundle(maker.write(tmp_path / "marked")), opener=opener)]) as runtime:
        markers[0].armed = True
        yield runtime, markers[0]


class WrongInBatches(Marker):
    """A backend that is right about one picture at a time alone."""

    def run(self, inputs, outputs):
        found = self.real.run(inputs, outputs)
        return found if len(inputs["pixel_values"]) == 1 else found | {"type_logits": found["type_logits"] + 9}


def test_a_bundle_of_tiles_proves_its_batches_at_load(maker, tmp_path):
    maker.tile, maker.overlap, maker.max_views = 32, 8, 17
    with pytest.raises(BundleSelfTest, match="type_logits differs"):
        open_gate(
            read_bundle(maker.write(tmp_path / "tiled")), opener=lambda *args: WrongInBatches(OrtBackend.load(*args))
        )


def places(length, count):
    """Evenly spread starts of the block, both ends among them."""
    return sorted({(max(0, length - BLOCK)) * number // (count - 1) for number in range(count)})


def with_block(size, left, top):
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[top : top + BLOCK, left : left + BLOCK, 0] = 255
    return pixels


def test_a_risky_block_anywhere_is_found(marked):
    runtime, _ = marked
    for size in SIZES:
        for top in places(size[1], 3 + size[1] // 400):
            for left in places(size[0], 3 + size[0] // 400):
                assert runtime.check_frame(with_block(size, left, top)).category == "illegal_risk", (size, left, top)
        assert runtime.check_frame(np.zeros((size[1], size[0], 3), np.uint8)).action is Action.ALLOW


@pytest.mark.parametrize("size", LARGE)
def test_in_the_largest_pictures_too_and_the_verdict_says_where(marked, size):
    runtime, marker = marked
    left, top = size[0] - BLOCK - 7, size[1] // 2
    verdict = runtime.check_frame(with_block(size, left, top))
    region = verdict.region
    assert region[0] <= left < left + BLOCK <= region[2]
    assert region[1] <= top < top + BLOCK <= region[3]
    tiles = len(tile_boxes(size, plan(), square=False))
    assert f"of {tiles} at ({region[0]}, {region[1]}): illegal_risk" in verdict.reason
    assert verdict.heatmap().shape == (4, 4)
    assert sum(marker.runs) == tiles + 1
    assert max(marker.runs) == 8


def test_the_overview_decides_where_it_is_worst(marked):
    runtime, _ = marked
    verdict = runtime.check_frame(np.full((300, 300, 3), (255, 0, 0), np.uint8))
    assert (verdict.category, verdict.region) == ("illegal_risk", None)
    assert verdict.reason.startswith("illegal_risk")


def test_frames_and_backgrounds_have_tiles_of_their_own(maker, tmp_path):
    maker.policy = maker.policy.replace(b'uncovered = "allow"', b'uncovered = "allow"\nframes = "all"')
    maker.tile, maker.overlap, maker.max_views, maker.thresholds = 32, 8, 17, 0.95
    frames = [np.zeros((64, 64, 3), np.uint8) for _ in range(3)]
    frames[1][40:, 40:, 2] = 255
    pictures = [Image.fromarray(pixels) for pixels in frames]
    animation, hidden = io.BytesIO(), io.BytesIO()
    pictures[0].save(animation, "GIF", save_all=True, append_images=pictures[1:])
    Image.fromarray(np.dstack([frames[1], np.full((64, 64), 0, np.uint8)])).save(hidden, "PNG")
    with Runtime.load(maker.write(tmp_path / "tiled")) as runtime:
        moving, still = runtime.check(animation.getvalue()), runtime.check(hidden.getvalue())
        many = runtime.check_many([animation.getvalue(), b"no image", hidden.getvalue()], batch_size=2)
    assert moving.reason.startswith("frame 2, tile 9 of 9 at (32, 32): privacy")
    assert still.reason.startswith("alpha dropped, tile 9 of 9 at (32, 32): privacy")
    assert moving.region == still.region == (32, 32, 64, 64)
    assert [one.reason for one in many] == [moving.reason, many[1].reason, still.reason]
    assert many[1].error == "image_format"


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_a_risky_frame_is_found_at_every_place(maker, tmp_path, paint, kind):
    maker.policy = maker.policy.replace(b'uncovered = "allow"', b'uncovered = "allow"\nframes = "all"')
    with Runtime.load(maker.write(tmp_path / "all")) as runtime:
        for place in range(4):
            colours = [(250, 0, 0) if number == place else (0, 240 + number, 0) for number in range(4)]
            frames = [Image.fromarray(paint(*colour)) for colour in colours]
            buffer = io.BytesIO()
            frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], lossless=True)
            assert runtime.check(buffer.getvalue()).reason.startswith(f"frame {place + 1}: illegal_risk")


def test_a_picture_that_takes_too_many_views_is_refused_by_name(maker, tmp_path, paint):
    maker.tile, maker.overlap, maker.max_views = 32, 0, 3
    with Runtime.load(maker.write(tmp_path / "few")) as runtime:
        verdict = runtime.check(paint(0, 250, 0, 64))
        assert (verdict.error, verdict.action) == ("image_too_many_views", Action.BLOCK)
        assert runtime.check(paint(0, 250, 0, 64)[:32]).error is None


def test_each_bundle_has_its_own_tiles_and_the_region_is_of_the_common_raster(maker, tmp_path):
    whole = maker.write(tmp_path / "whole")
    maker.name, maker.raster_max_side, maker.tile, maker.max_views, maker.thresholds = "tiles", 32, 16, 9, 0.8
    tiled = maker.write(tmp_path / "tiled")
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[..., 1] = 120
    pixels[:32, 32:] = (0, 0, 255)
    with Runtime.load(whole, tiled) as runtime:
        verdict = runtime.check(pixels)
    assert verdict.reason.startswith("tiles: tile 2 of 4 at (32, 0): privacy")
    assert verdict.region == (32, 0, 64, 32)


def test_features_of_one_look_are_no_substitute_for_tiles(maker, tmp_path):
    maker.tile, maker.max_views = 32, 5
    with Runtime.load(maker.write(tmp_path / "tiled")) as runtime:
        array, tower = np.zeros((16, 3), np.float32), "sha256:" + "0" * 64
        features = VisionFeatures(array=array, grid=(4, 4), tower_digest=tower, tap="hidden:-1", raster_sha256="r")
        found = runtime.check_features(features)
    assert (found.error, found.action) == ("features_mismatch", Action.BLOCK)


def test_no_manifest_changes_the_views_under_its_thresholds(maker, tmp_path):
    maker.tile, maker.max_views = 32, 5
    manifest = parse_manifest((maker.write(tmp_path / "tiled") / "manifest.json").read_bytes())
    calibration = msgspec.structs.replace(manifest.calibration, record=None)
    cut = msgspec.structs.replace(manifest.preprocessing, resize="shortest_edge", shortest_edge=20)
    for changes in ({"view_plan": {"tile": 16}}, {"calibration": calibration}, {"preprocessing": cut}):
        plain = msgspec.to_builtins(manifest)
        for part, change in changes.items():
            plain[part].update(msgspec.to_builtins(change))
            if part == "calibration":
                del plain[part]["record"]
        plain = {**plain, "digest": ""}
        with pytest.raises(msgspec.ValidationError, match="view_plan"):
            msgspec.convert(plain, type(manifest))
    with pytest.raises(ValueError, match="view_plan"):
        msgspec.structs.replace(manifest, view_plan=plan())
