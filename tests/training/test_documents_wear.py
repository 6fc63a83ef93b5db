"""Wear, covers and displays: pure functions of a stream and a picture that change what they say."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from safevlm_training.documents.covers import Cover, cover, sleeve
from safevlm_training.documents.displays import bezel, printed, window
from safevlm_training.documents.streams import stream
from safevlm_training.documents.values import Artwork
from safevlm_training.documents.warp import polygon_area
from safevlm_training.documents.wear import EFFECTS, worn

QUAD = np.array([[100.0, 80.0], [300.0, 80.0], [300.0, 200.0], [100.0, 200.0]])


def card(size=(120, 80)):
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[..., 0] = np.linspace(30, 220, size[0]).astype(np.uint8)
    pixels[..., 1] = 120
    return Image.fromarray(pixels)


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: effect.__name__)
def test_an_effect_is_pure_and_leaves_its_input_alone(effect):
    picture = card()
    before = picture.tobytes()
    first, again, other = (effect(stream("wear", number), picture) for number in (1, 1, 2))
    assert picture.tobytes() == before
    assert (first.size, first.mode) == (picture.size, "RGB")
    assert first.tobytes() == again.tobytes() != before
    assert first.tobytes() != other.tobytes()


def test_half_of_the_documents_are_as_new():
    picture = card()
    same = sum(worn(stream("new", number), picture).tobytes() == picture.tobytes() for number in range(80))
    assert 30 <= same <= 60


def test_a_print_says_where_on_the_sheet_it_is():
    art = Artwork(image=Image.new("RGB", (200, 120), (200, 0, 0)))
    for number in range(6):
        sheet, (left, top, right, low) = printed(stream("print", number), art)
        pixels = np.asarray(sheet.image.convert("L"), float)
        inside = np.zeros(pixels.shape, bool)
        height, width = pixels.shape
        inside[round(top * height) : round(low * height), round(left * width) : round(right * width)] = True
        assert inside.sum() == pytest.approx(200 * 120, rel=0.03)
        assert pixels[inside].max() < pixels[~inside].min()


def test_what_another_document_hides_is_counted_as_hidden():
    note = Artwork(image=Image.new("RGB", (60, 40), (0, 0, 255)))
    shares = []
    for number in range(40):
        frame, hidden = Image.new("RGB", (400, 300), (0, 0, 0)), Cover((400, 300))
        before = frame.tobytes()
        cover(stream("cover", number), frame, hidden, QUAD, (note,))
        seen = hidden.visible(QUAD)
        assert (seen == 1.0) or frame.tobytes() != before
        shares.append(seen)
    assert 10 <= sum(seen == 1.0 for seen in shares) <= 30
    assert min(shares) < 0.85


def test_a_quadrangle_half_outside_is_half_visible():
    assert Cover((400, 300)).visible(QUAD - [200.0, 0.0]) == pytest.approx(0.5, abs=0.05)
    assert polygon_area(QUAD) == 200 * 120


def test_windows_sleeves_and_bezels_stay_where_they_belong():
    for draw, inside in (
        (lambda frame: window(stream("window"), frame, QUAD), (200, 140)),
        (lambda frame: sleeve(frame, QUAD, above=False), (200, 140)),
        (lambda frame: bezel(stream("bezel"), frame), (0, 0)),
    ):
        frame = Image.new("RGB", (400, 300), (100, 0, 0))
        draw(frame)
        assert frame.getpixel(inside) != (100, 0, 0)
        assert frame.getpixel((390, 150) if inside == (200, 140) else (200, 150)) == (100, 0, 0)
