"""Photographs, scans, copies and screen shots of flat artwork; positives and twins take the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .covers import Cover, cover, finger, sleeve
from .develop import develop, moire, photocopy
from .displays import bezel, printed, window
from .streams import chance
from .values import Artwork
from .warp import Points, place, polygon_area, pose, through
from .wear import worn

MODES = ("photo", "scan", "fill", "photocopy", "screen", "print")
SHARES = (0.58, 0.12, 0.08, 0.06, 0.11, 0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A finished picture and how well it shows the main document.

    Attributes:
        image: RGB.
        mode: One of `MODES`.
        area: Visible part of the document as a fraction of the picture.
        seen: Fraction of the document that is neither covered nor outside the picture.
        number_seen: The same for the box around its number.
        softness: Blur as a fraction of the document's shorter side.
    """

    image: Image.Image
    mode: str
    area: float = 0.0
    seen: float = 1.0
    number_seen: float = 1.0
    softness: float = 0.0


def shoot(rng: np.random.Generator, main: Artwork, others: Sequence[Artwork], ground: Image.Image) -> Shot:
    """Capture artwork, for photographs with other artwork beside it, on a ground that sets the size."""
    mode = MODES[int(rng.choice(len(MODES), p=SHARES))]
    if mode == "print" and main.least > 0.2:
        mode = "photo"
    if mode == "fill":
        return _fill(rng, main, max(ground.size))
    if mode in ("scan", "photocopy"):
        shade = int(rng.integers(225, 256))
        ground = Image.new("RGB", ground.size, (shade, shade, shade))
    frame, hidden = ground.copy(), Cover(ground.size)
    quad = _lay(rng, mode, main, others, frame)
    if mode in ("photo", "print"):
        cover(rng, frame, hidden, quad, others)
    softness = _softness(rng, frame.size)
    picture = _finish(rng, mode, frame, softness)
    number = through(quad, main.number or (0, 0, 1, 1))
    seen = hidden.visible(quad)
    short = float(np.linalg.norm(quad[[1, 3]] - quad[0], axis=1).min())
    return Shot(
        image=picture,
        mode=mode,
        area=seen * polygon_area(quad) / (frame.width * frame.height),
        seen=seen,
        number_seen=hidden.visible(number),
        softness=softness / max(short, 1.0),
    )


def _lay(rng: np.random.Generator, mode: str, main: Artwork, others: Sequence[Artwork], frame: Image.Image) -> Points:
    """Place the artwork, and what lies around or below it; return where its corners are."""
    if mode == "print":
        sheet, box = printed(rng, main)
        covers = rng.uniform(max(0.5, main.least), 0.95)
        quad = pose(rng, frame.size, sheet.image.size, covers, flat=False, spill=False)
        place(rng, frame, sheet, quad)
        return through(quad, box)
    flat = mode != "photo"
    least = max(main.least, 0.35 if flat else 0.07)
    covers = rng.uniform(least, 0.95) if flat else rng.uniform(least**0.5, 0.97) ** 2
    spill = not flat and main.least < 0.2 and chance(rng, 0.15)
    quad = pose(rng, frame.size, main.image.size, covers, flat=flat, spill=spill)
    for other in () if flat else others:
        spot = pose(rng, frame.size, other.image.size, rng.uniform(0.05, 0.3), flat=False, spill=True)
        place(rng, frame, other, spot)
    if mode == "screen" and chance(rng, 0.6):
        window(rng, frame, quad)
    plastic = mode == "photo" and chance(rng, 0.08)
    if plastic:
        sleeve(frame, quad, above=False)
    place(rng, frame, main, quad, shadow=mode == "photo")
    if plastic:
        sleeve(frame, quad, above=True)
    if mode == "screen" and chance(rng, 0.25):
        bezel(rng, frame)
    return quad


def shoot_scene(rng: np.random.Generator, picture: Image.Image) -> Shot:
    """Finish a picture that shows no document."""
    mode = MODES[int(rng.choice(len(MODES), p=SHARES))]
    if mode == "photo" and chance(rng, 0.12):
        width, height = picture.size
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
        finger(rng, picture, Cover(picture.size), corners)
    return Shot(image=_finish(rng, mode, picture, _softness(rng, picture.size)), mode=mode)


def _softness(rng: np.random.Generator, size: tuple[int, int]) -> float:
    """Choose a blur in pixels that grows with the picture."""
    blur = rng.exponential(0.5) if chance(rng, 0.75) else rng.uniform(0, 4)
    return float(blur) * max(size) / 640


def _finish(rng: np.random.Generator, mode: str, picture: Image.Image, softness: float) -> Image.Image:
    if mode == "photocopy":
        return photocopy(rng, picture, softness)
    if mode == "screen":
        picture = moire(rng, picture)
    return develop(rng, picture, softness)


def _fill(rng: np.random.Generator, main: Artwork, longest: int) -> Shot:
    width, height = main.image.size
    size = (
        max(64, round(width * longest / max(width, height))),
        max(64, round(height * longest / max(width, height))),
    )
    softness = _softness(rng, size)
    picture = develop(rng, worn(rng, main.image).resize(size, Image.Resampling.BICUBIC), softness)
    return Shot(image=picture, mode="fill", area=1.0, softness=softness / min(size))
