"""Table tops, cloth, stone and paper seen from above, and things that lie about on them."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .grounds import clouds, gradient
from .palette import hsv, mix
from .streams import chance

SURFACES = ("wood", "cloth", "stone", "paper", "plain")
Size = tuple[int, int]


def surface(rng: np.random.Generator, size: Size) -> Image.Image:
    """Draw a table top, cloth, stone, paper or plain ground, seen from above."""
    width, height = size
    kind = SURFACES[int(rng.integers(len(SURFACES)))]
    if kind == "wood":
        return wood(rng, size)
    base = hsv(rng.random(), rng.uniform(0, 0.6 if kind == "cloth" else 0.25), rng.uniform(0.12, 0.95))
    other = mix(base, (255, 255, 255) if chance(rng, 0.5) else (0, 0, 0), rng.uniform(0.1, 0.4))
    if kind == "plain":
        return gradient(width, height, base, other, rng.uniform(0, 6.3))
    if kind == "stone":
        coarse = clouds(rng, width, height, int(rng.integers(6, 20)), (base, other))
        return Image.blend(coarse, clouds(rng, width, height, 110, (base, other)), 0.5)
    cells = 90 if kind == "cloth" else 140
    picture = clouds(rng, width, height, cells, (base, mix(base, other, 0.4)))
    if kind == "cloth":
        pen, step = ImageDraw.Draw(picture, "RGBA"), max(3, width // int(rng.integers(12, 60)))
        for x in range(0, width, step):
            pen.line([x, 0, x, height], fill=(*other, 80), width=max(1, step // 3))
        for y in range(0, height if chance(rng, 0.6) else 0, step):
            pen.line([0, y, width, y], fill=(*other, 80), width=max(1, step // 3))
    return picture


def wood(rng: np.random.Generator, size: Size) -> Image.Image:
    """Draw planks with grain."""
    width, height = size
    base = hsv(rng.uniform(0.04, 0.11), rng.uniform(0.3, 0.7), rng.uniform(0.25, 0.85))
    grain = rng.random((90, 5)) * 0.6 + np.sin(np.linspace(0, rng.uniform(20, 90), 90))[:, None] * 0.2 + 0.2
    share = np.clip(grain, 0, 1)[..., None]
    dark = np.array(mix(base, (30, 15, 5), 0.45))
    pixels = np.array(base) * (1 - share) + dark * share
    picture = Image.fromarray(pixels.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture, "RGBA")
    for y in np.linspace(0, height, int(rng.integers(1, 7)), endpoint=False)[1:]:
        pen.line([0, y, width, y], fill=(20, 10, 5, 150), width=max(1, height // 250))
    return picture.transpose(Image.Transpose.ROTATE_90).resize(size) if chance(rng, 0.4) else picture


def scatter(rng: np.random.Generator, picture: Image.Image, count: int) -> None:
    """Put a few table things (cup, pen, leaf, coin, phone, book) onto a picture."""
    for _ in range(count):
        x, y = rng.uniform(0, picture.width), rng.uniform(0, picture.height)
        reach = min(picture.size) * rng.uniform(0.05, 0.2)
        _thing(rng, ImageDraw.Draw(picture, "RGBA"), x, y, reach)


def _thing(rng: np.random.Generator, pen: ImageDraw.ImageDraw, x: float, y: float, r: float) -> None:
    colour = hsv(rng.random(), rng.uniform(0, 0.9), rng.uniform(0.1, 1))
    what = int(rng.integers(6))
    if what == 0:
        for share, shade in ((1.0, colour), (0.82, mix(colour, (0, 0, 0), 0.2)), (0.74, (70, 40, 22))):
            pen.ellipse([x - r * share, y - r * share, x + r * share, y + r * share], fill=shade)
    elif what == 1:
        turn = rng.uniform(0, 6.3)
        dx, dy = 2.4 * r * float(np.cos(turn)), 2.4 * r * float(np.sin(turn))
        pen.line([x - dx, y - dy, x + dx, y + dy], fill=colour, width=max(2, int(r * 0.25)))
        pen.line(
            [x + dx * 0.8, y + dy * 0.8, x + dx * 1.1, y + dy * 1.1], fill=(20, 20, 20), width=max(2, int(r * 0.15))
        )
    elif what == 2:
        pen.ellipse([x - r, y - r * 0.4, x + r, y + r * 0.4], fill=hsv(rng.uniform(0.2, 0.4), 0.7, 0.6))
    elif what == 3:
        pen.ellipse(
            [x - r * 0.5, y - r * 0.5, x + r * 0.5, y + r * 0.5], fill=(190, 160, 80), outline=(110, 90, 40), width=2
        )
    elif what == 4:
        pen.rounded_rectangle(
            [x - r, y - r * 1.9, x + r, y + r * 1.9], r * 0.2, fill=(18, 18, 22), outline=(90, 90, 95), width=2
        )
    else:
        pen.rectangle([x - r * 1.6, y - r * 1.1, x + r * 1.6, y + r * 1.1], fill=colour)
        pen.rectangle([x - r * 1.1, y - r * 0.5, x + r * 1.1, y - r * 0.2], fill=mix(colour, (255, 255, 255), 0.7))
