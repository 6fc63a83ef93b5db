"""Colour schemes, shared by documents and their harmless twins."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from .streams import stream
from .values import Colour

TONES = ("pastel", "deep", "pastel", "paper", "deep", "pastel", "metal", "vivid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """The colours of one design.

    Attributes:
        name: Number and tone, for the manifest.
        ground: Main background.
        ground2: The colour the background runs into.
        ink: Text that is easy to read on the ground.
        faint: Line work between ground and ink.
        accent: Bars, logos and emblems.
        accent2: Their second colour.
        dark: Whether the ground is darker than the ink.
    """

    name: str
    ground: Colour
    ground2: Colour
    ink: Colour
    faint: Colour
    accent: Colour
    accent2: Colour
    dark: bool


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Turn hue, saturation and value (0..1; the hue wraps) into 8-bit RGB."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return round(red * 255), round(green * 255), round(blue * 255)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Blend two colours; `share` of the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def ink_on(ground: Colour) -> Colour:
    """Choose near-black or white, whichever reads better on a colour."""
    red, green, blue = ground
    return (24, 24, 30) if 0.3 * red + 0.59 * green + 0.11 * blue > 140 else (255, 255, 255)


def scheme(number: int, rng: np.random.Generator) -> Scheme:
    """Build one numbered scheme with a slight shift of hue and brightness from `rng`."""
    plan = stream("scheme", number)
    hue = plan.random() + rng.uniform(-0.015, 0.015)
    hue2 = hue + plan.choice([0.04, -0.07, 0.12, 0.33, 0.5])
    tone = TONES[int(plan.integers(len(TONES)))]
    shine = rng.uniform(-0.03, 0.03)
    if tone == "deep":
        ground, ground2 = hsv(hue, 0.75, 0.38 + shine), hsv(hue2, 0.7, 0.22 + shine)
    elif tone == "vivid":
        ground, ground2 = hsv(hue, 0.68, 0.72 + shine), hsv(hue2, 0.7, 0.6 + shine)
    elif tone == "metal":
        ground, ground2 = hsv(hue, 0.08, 0.3 + shine), hsv(hue, 0.12, 0.13 + shine)
    elif tone == "paper":
        ground, ground2 = hsv(hue, 0.03, 0.96 + shine), hsv(hue, 0.06, 0.91 + shine)
    else:
        ground, ground2 = hsv(hue, 0.16, 0.94 + shine), hsv(hue2, 0.24, 0.88 + shine)
    dark = tone in ("deep", "metal", "vivid")
    ink = hsv(hue, 0.06, 0.97) if dark else hsv(hue, 0.35, 0.14)
    return Scheme(
        name=f"{number:02d}-{tone}",
        ground=ground,
        ground2=ground2,
        ink=ink,
        faint=mix(ground, ink, 0.34),
        accent=hsv(hue2, 0.5, 0.95) if dark else hsv(hue, 0.72, 0.48),
        accent2=hsv(hue2 + 0.3, 0.62, 0.85) if dark else hsv(hue2 + 0.1, 0.66, 0.68),
        dark=dark,
    )
