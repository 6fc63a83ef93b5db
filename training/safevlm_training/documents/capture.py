"""Photographs, scans, copies and screen shots of flat artwork; positives and twins take the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .develop import develop, moire, photocopy
from .grounds import gradient
from .palette import hsv, mix
from .portraits import SKINS
from .streams import chance
from .values import Artwork
from .warp import Points, clipped, place, polygon_area, pose, through

MODES = ("photo", "scan", "fill", "photocopy", "screen")
SHARES = (0.62, 0.13, 0.09, 0.06, 0.10)


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
    if mode == "fill":
        return _fill(rng, main, max(ground.size))
    if mode in ("scan", "photocopy"):
        shade = int(rng.integers(225, 256))
        ground = Image.new("RGB", ground.size, (shade, shade, shade))
    flat = mode != "photo"
    covers = rng.uniform(0.35, 0.95) if flat else rng.uniform(0.26, 0.97) ** 2
    spill = not flat and chance(rng, 0.15)
    quad = pose(rng, ground.size, main.image.size, covers, flat=flat, spill=spill)
    frame, hidden = ground.copy(), _Cover(ground.size)
    for other in () if flat else others:
        place(
            rng, frame, other, pose(rng, frame.size, other.image.size, rng.uniform(0.05, 0.3), flat=False, spill=True)
        )
    place(rng, frame, main, quad, shadow=mode == "photo")
    if mode == "photo":
        _cover(rng, frame, hidden, quad)
    softness = _softness(rng)
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


def shoot_scene(rng: np.random.Generator, picture: Image.Image) -> Shot:
    """Finish a picture that shows no document."""
    mode = MODES[int(rng.choice(len(MODES), p=SHARES))]
    if mode == "photo" and chance(rng, 0.12):
        width, height = picture.size
        _finger(
            rng, picture, _Cover(picture.size), np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
        )
    return Shot(image=_finish(rng, mode, picture, _softness(rng)), mode=mode)


def _softness(rng: np.random.Generator) -> float:
    return float(rng.exponential(0.5)) if chance(rng, 0.75) else float(rng.uniform(0, 4))


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
    softness = _softness(rng)
    picture = develop(rng, main.image.resize(size, Image.Resampling.BICUBIC), softness)
    return Shot(image=picture, mode="fill", area=1.0, softness=softness / min(size))


class _Cover:
    """A quarter-size map of what hides the document."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.map = Image.new("L", (size[0] // 4 + 1, size[1] // 4 + 1), 0)

    def visible(self, quad: Points) -> float:
        """Measure which fraction of a quadrangle is inside the picture and not hidden."""
        inside = Image.new("L", self.map.size, 0)
        ImageDraw.Draw(inside).polygon([tuple(p) for p in (quad / 4).tolist()], fill=255)
        pixels = np.asarray(inside) > 0
        shown = pixels & (np.asarray(self.map) == 0)
        on_frame = polygon_area(clipped(quad, self.size)) / max(polygon_area(quad), 1e-6)
        return min(on_frame * float(shown.sum()) / max(float(pixels.sum()), 1.0), 1.0)


def _cover(rng: np.random.Generator, frame: Image.Image, hidden: _Cover, quad: Points) -> None:
    fate = rng.random()
    if fate < 0.2:
        for _ in range(int(rng.integers(1, 3))):
            _finger(rng, frame, hidden, quad)
    elif fate < 0.28:
        _slip(rng, frame, hidden, quad)


def _finger(rng: np.random.Generator, frame: Image.Image, hidden: _Cover, quad: Points) -> None:
    """Let a finger reach from outside over one edge."""
    side = int(rng.integers(4))
    root = quad[side] + (quad[(side + 1) % 4] - quad[side]) * rng.uniform(0.1, 0.9)
    inward = quad.mean(0) - root
    tip = root + inward * rng.uniform(0.1, 0.5)
    far = root - inward / max(np.linalg.norm(inward), 1) * max(frame.size) * 0.8
    thick = float(np.sqrt(polygon_area(quad)) * rng.uniform(0.14, 0.27))
    skin = SKINS[int(rng.integers(len(SKINS)))]
    layer = Image.new("RGBA", frame.size, (*skin, 0))
    pen = ImageDraw.Draw(layer)
    for share, colour in ((1.0, mix(skin, (70, 30, 20), 0.3)), (0.78, skin), (0.4, mix(skin, (255, 240, 230), 0.18))):
        reach = thick * share / 2
        pen.line([*far.tolist(), *tip.tolist()], fill=(*colour, 255), width=max(2, round(thick * share)))
        pen.ellipse([tip[0] - reach, tip[1] - reach, tip[0] + reach, tip[1] + reach], fill=(*colour, 255))
    soft = layer.filter(ImageFilter.BoxBlur(max(1.0, thick * 0.05)))
    frame.paste(soft.convert("RGB"), (0, 0), soft.getchannel("A"))
    spots = [*(far / 4).tolist(), *(tip / 4).tolist()]
    ImageDraw.Draw(hidden.map).line(spots, fill=255, width=max(1, round(thick / 4)))
    reach, (x, y) = thick / 8, (tip / 4).tolist()
    ImageDraw.Draw(hidden.map).ellipse([x - reach, y - reach, x + reach, y + reach], fill=255)


def _slip(rng: np.random.Generator, frame: Image.Image, hidden: _Cover, quad: Points) -> None:
    """Lay a plain coloured slip of paper over one corner."""
    first, second = hsv(rng.random(), rng.uniform(0, 0.5), rng.uniform(0.5, 1)), (255, 255, 240)
    note = Artwork(image=gradient(48, 48, first, mix(first, second, 0.4), 1.0))
    start = quad[int(rng.integers(4))]
    reach = float(np.sqrt(polygon_area(quad))) * rng.uniform(0.2, 0.5)
    roll = rng.uniform(0, 2 * np.pi) + np.arange(4) * np.pi / 2
    corners = start + (quad.mean(0) - start) * rng.uniform(0, 0.5) + reach * np.stack([np.cos(roll), np.sin(roll)], 1)
    place(rng, frame, note, corners)
    ImageDraw.Draw(hidden.map).polygon([tuple(p) for p in (corners / 4).tolist()], fill=255)
