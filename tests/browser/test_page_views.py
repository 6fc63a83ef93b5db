"""The page's list of all that was judged, in a real Chromium: frames, tiles, and the chosen one in the picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.browser

BLUE, GREEN = (0, 0, 250), (0, 250, 0)  # privacy, safe
UP = "\ue013"
JUDGED = "!document.querySelector('#result').hidden"
MOVING = """schema = 1
name = "lobby"
uncovered = "allow"
on_error = "caution"
frames = "all"
[actions.privacy]
low = "caution"
medium = "caution"
high = "block"
"""
ROWS = (
    "return [...document.querySelectorAll('#views tbody tr')].map(row => [...row.cells].map(cell => cell.innerText))"
)
CHOSEN = "return document.querySelector('#views input:checked').labels[0].innerText"
LABEL = "document.querySelector('#canvas').ariaLabel"
PIXEL = """
const [x, y] = arguments, canvas = document.querySelector('#canvas');
return [...canvas.getContext('2d').getImageData(canvas.width * x, canvas.height * y, 1, 1).data];
"""


def test_a_single_view_is_not_listed(page, picture):
    page.choose(picture("a.png", BLUE))
    page.until(JUDGED)
    assert page.text("#views-block") == ""
    assert page.text("#size") == "60 \u00d7 40 pixels, as judged"


def test_every_frame_of_an_animation_is_listed_and_can_be_looked_at_with_the_keyboard(
    window, serve, bundle, animation
):
    window.open(serve(bundle, MOVING))
    window.choose(animation)
    window.until(f"{LABEL}.includes('Frame 3')")
    rows = window.run(ROWS)
    assert [row[0].split("\n")[0] for row in rows] == [f"Frame {number}, whole picture" for number in (1, 2, 3, 4)]
    assert [row[1] for row in rows] == ["Allowed", "Allowed", "Caution: privacy, medium", "Allowed"]
    assert all(row[2].endswith(" %") for row in rows)
    assert ["decides" in row[0] for row in rows] == [False, False, True, False]
    assert window.run(CHOSEN) == "Frame 3, whole picture"
    assert window.complaints() == []
    assert window.run(PIXEL, 0.5, 0.5)[2] > 50  # blue under the heatmap; of green, nothing would be left
    window.run("document.querySelector('#views input:checked').focus()")
    window.press(UP, UP)
    window.until(f"{LABEL}.includes('Frame 1')")
    assert window.run(CHOSEN) == "Frame 1, whole picture"
    assert window.run(PIXEL, 0.5, 0.5)[:2] == [0, 250]
    assert "looked" not in window.run(f"return {LABEL}")  # the heatmap is of the frame that decided alone
    assert window.text("#heat-label") == ""


def test_a_browser_without_a_decoder_of_frames_says_what_it_shows(window, serve, bundle, animation):
    window.open(serve(bundle, MOVING))
    window.run("delete window.ImageDecoder")
    window.choose(animation)
    window.until(f"{LABEL}.includes('this browser shows the first frame only')")
    assert window.run(PIXEL, 0.5, 0.5)[:2] == [0, 250]
    assert window.text("#size").endswith("Frame 3, whole picture; this browser shows the first frame only")


def test_every_tile_is_listed_and_framed_when_it_is_chosen(window, serve, maker, tmp_path):
    maker.tile, maker.max_views, maker.thresholds = 32, 5, 0.95
    pixels = np.full((64, 64, 3), (0, 120, 0), np.uint8)
    pixels[32:, 32:] = BLUE
    path = tmp_path / "tiles.png"
    Image.fromarray(pixels).save(path)
    window.open(serve(maker.write(tmp_path / "tiled")))
    window.choose(path)
    window.until(JUDGED)
    names = [row[0].split("\n")[0] for row in window.run(ROWS)]
    assert names == ["Whole picture", "Part from 0, 0 to 32, 32", "Part from 32, 0 to 64, 32",
                     "Part from 0, 32 to 32, 64", "Part from 32, 32 to 64, 64"]  # fmt: skip
    assert window.run(CHOSEN) == names[4]
    window.run("document.querySelectorAll('#views input')[1].click()")
    window.until(f"{LABEL}.includes('Part from 0, 0')")
    assert window.run(PIXEL, 0.5, 0.25)[0] > 200  # the frame around the tile
    assert window.run(PIXEL, 0.25, 0.25)[:3] == [0, 120, 0]
    assert window.run(PIXEL, 0.75, 0.75)[:3] == list(BLUE)


def test_the_one_that_decides_is_in_sight_in_a_long_list(window, serve, maker, tmp_path):
    maker.tile, maker.max_views, maker.thresholds = 8, 65, 0.95
    pixels = np.full((64, 64, 3), (0, 120, 0), np.uint8)
    pixels[56:, 56:] = BLUE
    path = tmp_path / "long.png"
    Image.fromarray(pixels).save(path)
    window.open(serve(maker.write(tmp_path / "tiled")))
    window.choose(path)
    window.until(JUDGED)
    assert len(window.run(ROWS)) == 65
    assert window.run("""
        const box = node => node.getBoundingClientRect(), row = box(document.querySelector('#views .decides'));
        const rows = box(document.querySelector('.rows'));
        return rows.top <= row.top && row.bottom <= rows.bottom;
    """)


def test_that_more_was_judged_than_is_listed_is_said(window, serve, bundle, animation):
    window.open(serve(bundle, MOVING))
    window.run("""
        const real = window.fetch;
        window.fetch = async (...asked) => {
            const said = await (await real(...asked)).json();
            return new Response(JSON.stringify({...said, views_judged: 300}));
        };
    """)
    window.choose(animation)
    window.until(JUDGED)
    assert "300 were judged; these are the worst 4." in window.text("#views-help")
