from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from safevlm_sdk.preprocess import Preprocessing, preprocess
from safevlm_sdk.raster import capped
from safevlm_sdk.resize import resize, vertical_first

FILTERS = [filter for filter in Image.Resampling if filter != Image.Resampling.NEAREST]
SIDES = st.tuples(st.integers(1, 120), st.integers(1, 120))


def noise(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """By arithmetic alone, so that the digests below depend on no generator's stream."""
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    places = np.arange(np.prod(shape), dtype=np.uint64)
    return Image.fromarray(((places * places * 2654435761 >> 13) % 256).astype(np.uint8).reshape(shape))


def digest(values: object) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("size", "resized", "rows_first"),
    [
        ((327, 436), (256, 256), True),
        ((640, 427), (256, 256), False),
        ((3000, 4000), (768, 1024), False),
        ((100, 300), (50, 200), False),
        ((100, 300), (50, 199), True),
        ((50, 300), (224, 299), True),
        ((50, 100), (224, 224), False),
        ((224, 300), (224, 300), False),
    ],
)
def test_the_height_changes_first_where_it_loses_more_than_twice_as_many(
    size: tuple[int, int], resized: tuple[int, int], rows_first: bool
) -> None:
    assert vertical_first(size, resized) is rows_first


@given(SIDES, SIDES, st.sampled_from(FILTERS), st.sampled_from(["L", "RGB"]))
@settings(max_examples=150, deadline=None)
def test_both_passes_are_pillows_and_come_in_the_order_told(
    size: tuple[int, int], resized: tuple[int, int], resample: Image.Resampling, mode: str
) -> None:
    image = noise(size, mode)
    found = resize(image, resized, resample)
    assert (found.mode, found.size) == (mode, resized)
    halfway = (size[0], resized[1]) if vertical_first(size, resized) else (resized[0], size[1])
    assert found.tobytes() == image.resize(halfway, resample).resize(resized, resample).tobytes()


@pytest.mark.parametrize("resample", Image.Resampling)
@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((97, 61), (40, 33)),
        ((97, 61), (120, 130)),
        ((31, 97), (20, 75)),
        ((31, 97), (31, 20)),
        ((31, 97), (7, 97)),
        ((300, 9), (40, 1)),
        ((1, 1), (5, 7)),
    ],
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_it_is_one_call_of_pillow_where_that_begins_along_the_rows(
    size: tuple[int, int], resized: tuple[int, int], resample: Image.Resampling, mode: str
) -> None:
    image = noise(size, mode)
    assert resize(image, resized, resample).tobytes() == image.resize(resized, resample).tobytes()


def test_the_order_shows_in_the_pixels() -> None:
    image = noise((327, 436))
    found, other = (
        np.asarray(image.resize(halfway, Image.Resampling.BICUBIC).resize((256, 256), Image.Resampling.BICUBIC))
        for halfway in ((327, 256), (256, 436))
    )
    assert np.abs(found.astype(int) - other).max() > 5
    assert np.array_equal(np.asarray(resize(image, (256, 256), Image.Resampling.BICUBIC)), found)


@pytest.mark.parametrize("size", [(327, 436), (436, 327)])
def test_no_call_leaves_the_order_to_pillow(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    pillows, steps = Image.Image.resize, [size]

    def seen(image: Image.Image, step: tuple[int, int], resample: Image.Resampling) -> Image.Image:
        steps.append(step)
        return pillows(image, step, resample)

    monkeypatch.setattr(Image.Image, "resize", seen)
    resize(noise(size), (256, 256), Image.Resampling.BICUBIC)
    assert steps == [size, (327, 256) if size == (327, 436) else (256, 327), (256, 256)]


def test_an_image_of_that_size_comes_back_as_it_is() -> None:
    image = noise((30, 20))
    assert resize(image, (30, 20), Image.Resampling.BICUBIC) is image


@pytest.mark.parametrize(
    ("size", "capped_at_100", "tensor"),
    [
        ((327, 436), "15e63d52d42dfc34", "041024fa3fa540e4"),
        ((641, 427), "acb9ce7c9fd4c150", "55e2f988652b5754"),
        ((53, 997), "995907b41d52a620", "324bcca6efcc303a"),
    ],
)
def test_every_supported_pillow_gives_these_bits(size: tuple[int, int], capped_at_100: str, tensor: str) -> None:
    """Seen under Pillow 11.3, 12.0 and 13.0."""
    spec = Preprocessing(
        resize="exact",
        height=97,
        width=131,
        shortest_edge=None,
        resample="bilinear",
        rescale_factor=1 / 255,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    pixels = np.asarray(noise(size))
    assert digest(capped(pixels, 100)) == capped_at_100
    assert digest(preprocess(pixels, spec)) == tensor
