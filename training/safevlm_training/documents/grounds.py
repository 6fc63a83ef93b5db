"""Backgrounds that identity documents, loyalty cards and posters all use alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .palette import Scheme, mix
from .streams import chance, pick
from .values import Colour

PATTERNS = ("waves", "rosette", "hatch", "rays", "sweeps", "facets", "rings", "dots", "plain")


def gradient(width: int, height: int, first: Colour, second: Colour, turn: float) -> Image.Image:
    """Run one colour into another along a direction given in radians."""
    y, x = np.mgrid[0:16, 0:16].astype(np.float32) / 15
    along = (x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn)
    return _between(along / 1.2 + 0.5, first, second).resize((width, height), Image.Resampling.BILINEAR)


def clouds(
    rng: np.random.Generator, width: int, height: int, cells: int, colours: tuple[Colour, Colour]
) -> Image.Image:
    """Blend two colours along smooth random noise with about this many cells a side."""
    return _between(rng.random((cells, cells)), *colours).resize((width, height), Image.Resampling.BICUBIC)


def _between(share: NDArray[np.floating], first: Colour, second: Colour) -> Image.Image:
    low, high = np.array(first, np.float32), np.array(second, np.float32)
    pixels = low + (high - low) * np.clip(share, 0, 1)[..., None]
    return Image.fromarray(pixels.astype(np.uint8))


def card_ground(
    rng: np.random.Generator, plan: np.random.Generator, size: tuple[int, int], scheme: Scheme
) -> tuple[Image.Image, str]:
    """Draw the background of a document: a gradient and one pattern that `plan` settles; also name it."""
    width, height = size
    picture = gradient(width, height, scheme.ground, scheme.ground2, plan.uniform(0, 2 * np.pi))
    if chance(rng, 0.3):
        blotch = clouds(rng, width, height, 5, (scheme.ground, mix(scheme.ground2, scheme.accent, 0.25)))
        picture = Image.blend(picture, blotch, 0.5)
    pattern = pick(plan, PATTERNS)
    pen = ImageDraw.Draw(picture, "RGBA")
    if pattern != "plain":
        _DRAWN[pattern](pen, plan, size, scheme)
    return picture, pattern


def _waves(pen: ImageDraw.ImageDraw, plan: np.random.Generator, size: tuple[int, int], scheme: Scheme) -> None:
    width, height = size
    x = np.linspace(0, width, 56)
    phase, beat = plan.uniform(0, 6), plan.uniform(1.5, 5)
    for family, colour in enumerate((scheme.faint, mix(scheme.faint, scheme.accent2, 0.6))):
        for k in range(13):
            swing = height * (0.05 + 0.045 * np.sin(phase + k * 0.45))
            y = height * (k / 12) + swing * np.sin(x / width * 2 * np.pi * beat + phase + k * 0.22 * (1 - 2 * family))
            pen.line(np.stack([x, y], 1).ravel().tolist(), fill=(*colour, 95), width=max(1, height // 300))


def _rosette(pen: ImageDraw.ImageDraw, plan: np.random.Generator, size: tuple[int, int], scheme: Scheme) -> None:
    width, height = size
    cx, cy = width * plan.uniform(0.25, 0.8), height * plan.uniform(0.3, 0.7)
    rosette(pen, (cx, cy), height * plan.uniform(0.4, 0.8), scheme.faint, int(plan.integers(5, 14)))


def rosette(pen: ImageDraw.ImageDraw, at: tuple[float, float], radius: float, colour: Colour, petals: int) -> None:
    """Draw the woven circle of line work that banknotes and certificates carry."""
    turn = np.linspace(0, 2 * np.pi, 150)
    for k in range(9):
        reach = radius * (0.35 + 0.07 * k) * (1 + 0.22 * np.cos(petals * turn + k * 0.35))
        points = np.stack([at[0] + reach * np.cos(turn), at[1] + reach * np.sin(turn)], 1)
        pen.line(points.ravel().tolist(), fill=(*colour, 100), width=max(1, round(radius / 150)))


def _hatch(pen: ImageDraw.ImageDraw, plan: np.random.Generator, size: tuple[int, int], scheme: Scheme) -> None:
    width, height = size
    step, lean = height * plan.uniform(0.03, 0.12), height * plan.uniform(-0.8, 0.8)
    for x in np.arange(-height, width + height, step):
        pen.line([x, 0, x + lean, height], fill=(*scheme.faint, 80), width=max(1, round(step * 0.2)))


def _rays(pen: ImageDraw.ImageDraw, plan: np.random.Generator, size: tuple[int, int], scheme: Scheme) -> None:
    width, height = size
    cx, cy = width * plan.uniform(0, 1), height * plan.uniform(0, 1)
    for turn in np.linspace(0, 2 * np.pi, int(plan.integers(14, 40)), endpoint=False):
        ends = [(cx + 2 * width * np.cos(turn + d), cy + 2 * width * np.sin(turn + d)) for d in (0, 0.07)]
        pen.polygon([(cx, cy), *ends], fill=(*scheme.faint, 60))


def _sweeps(pen: ImageDraw.ImageDraw, plan: np.random.Generator, size: tuple[int, int], scheme: Scheme) -> None:
    width, height = size
    for colour in (scheme.accent, scheme.accent2, scheme.ground2):
        cx, cy, reach = (
            width * plan.uniform(-0.4, 1.4),
            height * plan.uniform(0.6, 2.2),
            height * plan.uniform(0.9, 2),
        )
        pen.ellipse(
            [cx - reach * 1.5, cy - reach, cx + reach * 1.5, cy + reach], fill=(*colour, int(plan.integers(40, 150)))
        )


def _facets(pen: ImageDraw.ImageDraw, plan: np.random.Generator, size: tuple[int, int], scheme: Scheme) -> None:
    width, height = size
    for _ in range(12):
        corners = plan.uniform(-0.2, 1.2, (3, 2)) * [width, height]
        colour = mix(scheme.ground2, scheme.accent, plan.uniform(0, 0.7))
        pen.polygon([tuple(c) for c in corners.tolist()], fill=(*colour, 70))


def _rings(pen: ImageDraw.ImageDraw, plan: np.random.Generator, size: tuple[int, int], scheme: Scheme) -> None:
    width, height = size
    cx, cy = width * plan.uniform(0.4, 1.1), height * plan.uniform(-0.1, 1.1)
    for reach in np.arange(0.1, 1.6, plan.uniform(0.06, 0.16)) * height:
        pen.ellipse(
            [cx - reach, cy - reach, cx + reach, cy + reach],
            outline=(*scheme.faint, 110),
            width=max(1, height // 160),
        )


def _dots(pen: ImageDraw.ImageDraw, plan: np.random.Generator, size: tuple[int, int], scheme: Scheme) -> None:
    width, height = size
    step = height * plan.uniform(0.07, 0.14)
    for row, y in enumerate(np.arange(0, height, step)):
        reach = step * (0.08 + 0.3 * y / height)
        for x in np.arange(step / 2 * (row % 2), width, step):
            pen.ellipse([x - reach, y - reach, x + reach, y + reach], fill=(*scheme.faint, 70))


_DRAWN = {
    "waves": _waves,
    "rosette": _rosette,
    "hatch": _hatch,
    "rays": _rays,
    "sweeps": _sweeps,
    "facets": _facets,
    "rings": _rings,
    "dots": _dots,
}
