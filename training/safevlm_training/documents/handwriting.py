"""Lines that look written by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .canvas import Canvas
from .text import Face, font_at, line_width
from .values import Colour

PENS: tuple[Colour, ...] = ((26, 42, 120), (20, 24, 60), (30, 30, 34), (40, 60, 150))


@dataclass(frozen=True, slots=True)
class Hand:
    """Whose writing it is: a typeface to bend and the ink."""

    face: Face
    ink: Colour


def handwrite(
    canvas: Canvas,
    at: tuple[float, float],
    text: str,
    hand: Hand,
    size: float,
    rng: np.random.Generator,
    room: float = 0.0,
) -> None:
    """Write one line with leaning letters that dance on the line; `size` and `room` as for printed text."""
    pixels = max(6, round(size * canvas.unit))
    width = line_width(hand.face.runs(text), pixels)
    if room and width > room * canvas.width:
        pixels = max(6, int(pixels * room * canvas.width / width))
    letters = [(letter, file) for file, piece in hand.face.runs(text) for letter in piece]
    fonts = [font_at(file, max(6, round(pixels * rng.uniform(0.85, 1.15)))) for _, file in letters]
    widths = [font.getlength(letter) for font, (letter, _) in zip(fonts, letters, strict=True)]
    pad = pixels
    layer = Image.new("L", (round(sum(widths)) + 2 * pad, 2 * pad), 0)
    pen = ImageDraw.Draw(layer)
    drift, x = rng.uniform(-0.03, 0.03), float(pad)
    for (letter, _), font, width in zip(letters, fonts, widths, strict=True):
        y = 1.35 * pad + (x - pad) * drift + rng.normal(0, pixels * 0.04)
        pen.text((x, y), letter, font=font, fill=255, anchor="ls")
        x += width * rng.uniform(0.84, 1.0)
    lean = rng.uniform(0.05, 0.4)
    leaning = layer.transform(layer.size, Image.Transform.AFFINE, (1, lean, -lean * 1.35 * pad, 0, 1, 0))
    spot = (round(at[0] * canvas.width) - pad, round(at[1] * canvas.height - 1.35 * pad))
    canvas.image.paste(Image.new("RGB", layer.size, hand.ink), spot, leaning)
