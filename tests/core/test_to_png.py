"""What goes on to an engine is lossless, without metadata, and no larger than it is worth."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from safevlm_sdk.raster import decode, encode_png, raster_digest
from safevlm_sdk.raster.to_png import STORED_BYTES

SIDE = int((STORED_BYTES / 3) ** 0.5)  # of the largest square that is stored


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (300, 211), (SIDE, SIDE), (SIDE, SIDE + 1), (800, 900)])
def test_every_pixel_comes_back(size):
    pixels = noise(*size)
    for one in (pixels, pixels[:, ::-1], np.asfortranarray(pixels)):
        data = encode_png(one)
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.mode, image.info) == ("PNG", "RGB", {})
            assert (np.asarray(image) == one).all()
    assert encode_png(pixels) == encode_png(pixels.copy())


def test_our_own_decoder_reads_it_too():
    for pixels in (noise(32, 48), noise(SIDE, SIDE + 1)):
        assert decode(encode_png(pixels)).frames[0].sha256 == raster_digest(pixels)


def test_small_pictures_are_stored_and_larger_ones_compressed():
    small, large = np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((SIDE, SIDE + 1, 3), np.uint8)
    assert small.nbytes <= STORED_BYTES < large.nbytes
    assert small.nbytes <= len(encode_png(small)) <= 1.001 * small.nbytes + 100
    assert len(encode_png(large)) < large.nbytes / 50


def test_what_cannot_be_compressed_hardly_grows():
    pixels = noise(700, 700)
    assert len(encode_png(pixels)) <= 1.001 * pixels.nbytes + 100
