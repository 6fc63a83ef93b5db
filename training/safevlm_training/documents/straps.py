"""What a badge hangs from: a slot, a clip or a strap."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .palette import mix
from .values import Colour

RADIUS = 0.05


def hang(card: Image.Image, by: str, colour: Colour) -> tuple[Image.Image, Image.Image]:
    """Punch a slot and add a clip or a strap above; return the picture, and a mask of what belongs to it."""
    above = {"slot": 0, "clip": round(card.height * 0.1), "strap": round(card.height * 0.4)}[by]
    width, height = card.width, card.height + above
    short = min(card.size)
    picture = Image.new("RGB", (width, height), mix(colour, (128, 128, 128), 0.6))
    picture.paste(card, (0, above))
    mask = Image.new("L", (width, height), 0)
    ImageDraw.Draw(mask).rounded_rectangle([0, above, width - 1, height - 1], RADIUS * short, fill=255)
    middle, slot = width / 2, above + short * 0.045
    opening = [middle - short * 0.11, slot - short * 0.018, middle + short * 0.11, slot + short * 0.018]
    ImageDraw.Draw(picture).rounded_rectangle(opening, short * 0.018, fill=(40, 40, 44))
    if by == "strap":
        _strap(picture, mask, (middle, slot), short, colour)
    if by in ("clip", "strap"):
        _clip(picture, mask, (middle, slot), short)
    return picture, mask


def _strap(picture: Image.Image, mask: Image.Image, at: tuple[float, float], short: int, colour: Colour) -> None:
    """Draw two bands that come together above the slot."""
    x, y = at
    wide = short * 0.075
    for side in (-1, 1):
        far = x + side * short * 0.34
        band = [(far - wide / 2, 0), (far + wide / 2, 0), (x + wide / 2, y), (x - wide / 2, y)]
        ImageDraw.Draw(picture).polygon(band, fill=colour if side < 0 else mix(colour, (0, 0, 0), 0.25))
        ImageDraw.Draw(mask).polygon(band, fill=255)
        for step in np.linspace(0.1, 0.9, 6):
            dot = (far + (x - far) * step, y * step, wide * 0.2)
            ImageDraw.Draw(picture).regular_polygon(dot, 4, fill=mix(colour, (255, 255, 255), 0.7))


def _clip(picture: Image.Image, mask: Image.Image, at: tuple[float, float], short: int) -> None:
    """Draw a metal clip through the slot."""
    x, y = at
    top, reach = max(0.0, y - short * 0.15), short * 0.05
    box = [x - reach, top, x + reach, y + short * 0.012]
    ImageDraw.Draw(mask).rounded_rectangle(box, reach * 0.4, fill=255)
    ImageDraw.Draw(picture).rounded_rectangle(box, reach * 0.4, fill=(186, 188, 194), outline=(90, 92, 98), width=2)
    ring = [x - reach * 0.5, top + reach * 0.3, x + reach * 0.5, top + reach * 1.3]
    ImageDraw.Draw(picture).ellipse(ring, outline=(90, 92, 98), width=2)
