"""Screens and sheets of paper that show a document."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from .palette import hsv, ink_on, mix
from .streams import chance
from .text import font_at, words
from .values import Artwork, Box, Colour
from .warp import Points, card_mask


def window(rng: np.random.Generator, frame: Image.Image, quad: Points) -> None:
    """Draw a viewer's window or a message around the place where a document will appear."""
    low, high = quad.min(0), quad.max(0)
    reach = float(max(high - low))
    bar = max(10.0, reach * rng.uniform(0.05, 0.1))
    sheet: Colour = (34, 36, 42) if chance(rng, 0.45) else (244, 244, 247)
    x0, y0 = low - reach * rng.uniform(0.02, 0.15, 2) - [0, bar]
    x1, y1 = high + reach * rng.uniform(0.02, 0.15, 2)
    pen = ImageDraw.Draw(frame, "RGBA")
    pen.rounded_rectangle([x0, y0, x1, y1], bar * 0.3, fill=sheet, outline=(120, 120, 126))
    head = mix(sheet, hsv(rng.random(), 0.6, 0.6), rng.uniform(0, 0.7))
    pen.rectangle([x0 + 1, y0 + 1, x1 - 1, y0 + bar], fill=head)
    for dot in range(3):
        x = x0 + bar * (0.5 + 0.7 * dot) if chance(rng, 0.5) else x1 - bar * (0.5 + 0.7 * dot)
        spot = [x - bar * 0.2, y0 + bar * 0.3, x + bar * 0.2, y0 + bar * 0.7]
        pen.ellipse(spot, fill=((230, 90, 80), (230, 190, 70), (90, 190, 90))[dot])
    title = words(rng, 2)
    pen.text(
        ((x0 + x1) / 2, y0 + bar / 2),
        title,
        font=font_at(None, max(6, int(bar * 0.55))),
        fill=ink_on(head),
        anchor="mm",
    )
    if chance(rng, 0.4):
        for row in range(3):
            y = y1 + bar * (0.6 + row)
            pen.rectangle([x0, y, x0 + (x1 - x0) * rng.uniform(0.3, 1), y + bar * 0.35], fill=(*ink_on(sheet), 90))


def bezel(rng: np.random.Generator, frame: Image.Image) -> None:
    """Frame the picture as the edge of a telephone or a monitor does."""
    edge = max(4, round(min(frame.size) * rng.uniform(0.02, 0.07)))
    shade = int(rng.integers(8, 60))
    ImageDraw.Draw(frame).rectangle(
        [0, 0, frame.width - 1, frame.height - 1], outline=(shade, shade, shade), width=edge
    )


def printed(rng: np.random.Generator, art: Artwork) -> tuple[Artwork, Box]:
    """Print artwork on a white sheet, perhaps in grey; also find where on the sheet it is."""
    width, height = art.image.size
    room = rng.uniform(0.05, 0.5, 4)
    sheet = Image.new("RGB", (round(width * (1 + room[0] + room[1])), round(height * (1 + room[2] + room[3]))))
    shade = int(rng.integers(232, 256))
    sheet.paste((shade, shade, shade - 4), (0, 0, *sheet.size))
    left, top = round(width * room[0]), round(height * room[2])
    copy = art.image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1)))
    copy = ImageOps.grayscale(copy).convert("RGB") if chance(rng, 0.4) else copy
    paled = Image.blend(copy, Image.new("RGB", copy.size, (255, 255, 255)), rng.uniform(0.03, 0.22))
    sheet.paste(paled, (left, top), card_mask(art, art.image.size))
    box = (
        left / sheet.width,
        top / sheet.height,
        (left + width) / sheet.width,
        (top + height) / sheet.height,
    )
    return Artwork(image=sheet), box
