"""Laying icons out on a picture; every random number is spent in the same order whatever the icons show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from safevlm_training.documents.palette import hsv
from safevlm_training.documents.streams import chance, pick
from safevlm_training.documents.text import font_at
from safevlm_training.documents.values import Colour

from .glyphs import brightness, fitted, ink_over, inked, one_colour, sticker, tile
from .layouts import Layout

CAPTIONS = (
    "today", "new", "number four", "our choice", "see inside", "this week", "page 12", "for you", "part two",
    "the list", "hello", "open daily", "once more", "what is it?", "of the month", "volume 3", "item", "next to it",
)  # fmt: skip


def compose(rng: np.random.Generator, plan: Layout, icons: Sequence[Image.Image], ground: Image.Image) -> Image.Image:
    """Put icons into the cells of a layout, in their order and over again, perhaps with words; RGB."""
    picture = ground.convert("RGB")
    pen = ImageDraw.Draw(picture)
    columns, rows = plan.cells
    wide, high = picture.width / columns, picture.height / rows
    side = max(12, round(min(wide, high) * plan.share))
    paint, lean = _colours(rng), rng.normal(0, 10)
    for cell in range(columns * rows):
        x, y = (cell % columns + 0.5) * wide, (cell // columns + 0.5) * high
        room = np.maximum(np.array([wide, high]) - side, 0) / 2
        shift = rng.uniform(-0.8, 0.8, 2) * (0 if plan.style == "grid" else room)
        x, y = x + float(shift[0]), y + float(shift[1])
        below = paint if plan.style == "tile" else _mean(picture, x, y, side)
        mirrored, turn, ink = chance(rng, 0.5), lean + rng.normal(0, 6), ink_over(rng, below)
        icon = icons[cell % len(icons)]
        icon = ImageOps.mirror(icon) if mirrored else icon
        _lay(picture, plan, _coloured(icon, ink, plan), (x, y), (side, turn, paint))
        words = pick(rng, CAPTIONS)
        if plan.caption == "each":
            _write(pen, words, (x, min(y + side * 0.56, picture.height - side * 0.1)), side * 0.14, below)
    words, top = pick(rng, CAPTIONS), chance(rng, 0.3)
    if plan.caption == "one":
        y = picture.height * (0.07 if top else 0.93)
        _write(pen, words, (picture.width / 2, y), picture.height * 0.08, _mean(picture, picture.width / 2, y, 20))
    return picture


def _lay(
    picture: Image.Image,
    plan: Layout,
    icon: Image.Image,
    centre: tuple[float, float],
    drawn: tuple[int, float, Colour],
) -> None:
    side, turn, paint = drawn
    if plan.style == "tile":
        glyph = tile(fitted(icon, max(8, side * 2 // 3)), paint, disc=plan.disc)
    elif plan.style == "sticker":
        glyph = sticker(fitted(icon, max(8, side * 3 // 4)))
    else:
        glyph = fitted(icon, side)
    if plan.style in ("open", "sticker"):
        glyph = glyph.rotate(turn, Image.Resampling.BICUBIC, expand=True)
    picture.paste(glyph, (round(centre[0] - glyph.width / 2), round(centre[1] - glyph.height / 2)), glyph)


def _coloured(icon: Image.Image, ink: Colour, plan: Layout) -> Image.Image:
    """Give a silhouette a colour; on a sticker's white it must be dark."""
    if not one_colour(icon):
        return icon
    return inked(icon, (24, 24, 30) if plan.style == "sticker" and brightness(ink) > 150 else ink)


def _colours(rng: np.random.Generator) -> Colour:
    return hsv(rng.random(), rng.uniform(0, 0.8), rng.choice([rng.uniform(0.1, 0.45), rng.uniform(0.75, 1)]))


def _mean(picture: Image.Image, x: float, y: float, side: float) -> Colour:
    """Average what lies around a point of the picture."""
    half = max(2.0, side / 2)
    left, top = min(max(x - half, 0), picture.width - 2), min(max(y - half, 0), picture.height - 2)
    box = (left, top, min(max(x + half, left + 1), picture.width), min(max(y + half, top + 1), picture.height))
    red, green, blue = (int(value) for value in np.asarray(picture.resize((1, 1), Image.Resampling.BOX, box))[0, 0])
    return red, green, blue


def _write(pen: ImageDraw.ImageDraw, words: str, at: tuple[float, float], size: float, ground: Colour) -> None:
    ink = (20, 20, 24) if brightness(ground) > 128 else (255, 255, 255)
    pen.text(at, words, font=font_at(None, max(7, round(size))), fill=ink, anchor="mm")
