"""What use and time do to a flat document; every effect is one small function of a stream and a picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter

from .develop import multiply
from .palette import hsv
from .streams import chance

Effect = Callable[[np.random.Generator, Image.Image], Image.Image]


def worn(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Apply a few effects of wear; often none."""
    if chance(rng, 0.5):
        return picture
    for effect in EFFECTS:
        if chance(rng, EFFECTS[effect]):
            picture = effect(rng, picture)
    return picture


def scratched(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Draw fine light and dark scratches."""
    picture = picture.copy()
    pen = ImageDraw.Draw(picture, "RGBA")
    for _ in range(int(rng.integers(1, 16))):
        x, y = rng.uniform(0, picture.width), rng.uniform(0, picture.height)
        dx, dy = rng.normal(0, picture.width * 0.08, 2)
        shade = 255 if chance(rng, 0.6) else 40
        pen.line([x, y, x + dx, y + dy], fill=(shade, shade, shade, int(rng.integers(40, 140))), width=1)
    return picture


def folded(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Fold it once to three times: each side of a fold is lit differently, the edge is pale."""
    y, x = np.mgrid[0:48, 0:48] / 47
    light = np.full((48, 48), 250.0)
    picture = picture.copy()
    for _ in range(int(rng.integers(1, 4))):
        across, at = chance(rng, 0.5), rng.uniform(0.2, 0.8)
        far = (x if across else y) - at
        light -= rng.uniform(8, 45) * (far * (1 if chance(rng, 0.5) else -1) > 0) * np.exp(-np.abs(far) * 5)
        lean = rng.normal(0, 0.01)
        ends = [(at - lean, 0.0), (at + lean, 1.0)] if across else [(0.0, at - lean), (1.0, at + lean)]
        points = [(px * picture.width, py * picture.height) for px, py in ends]
        ImageDraw.Draw(picture, "RGBA").line(points, fill=(255, 255, 255, int(rng.integers(40, 150))), width=2)
    return multiply(picture, Image.fromarray(light.clip(0, 255).astype(np.uint8)))


def crumpled(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Light it like paper that was crushed: flat facets with sharp creases between them."""
    cells = int(rng.integers(8, 22))
    y, x = np.mgrid[0:72, 0:72] / 71
    spots, slopes = rng.random((cells, 2)), rng.normal(0, 1, (cells, 2))
    apart = (x[..., None] - spots[:, 0]) ** 2 + (y[..., None] - spots[:, 1]) ** 2
    near = apart.argmin(-1)
    tilt = slopes[near, 0] * (x - spots[near, 0]) + slopes[near, 1] * (y - spots[near, 1]) + slopes[near, 0] * 0.2
    light = (232 + rng.uniform(30, 90) * tilt).clip(90, 255).astype(np.uint8)
    soft = Image.fromarray(light).resize(picture.size, Image.Resampling.BICUBIC)
    return multiply(picture, soft)


def faded(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Bleach colours and contrast, as the sun does."""
    pale = ImageEnhance.Color(picture).enhance(rng.uniform(0.3, 0.9))
    return Image.blend(pale, Image.new("RGB", pale.size, hsv(0.12, 0.1, 0.95)), rng.uniform(0.05, 0.35))


def stained(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Leave rings and blots of coffee, ink or grease."""
    small = (max(8, picture.width // 4), max(8, picture.height // 4))
    stain = Image.new("RGB", small, (255, 255, 255))
    for _ in range(int(rng.integers(1, 4))):
        x, y, r = small[0] * rng.random(), small[1] * rng.random(), max(small) * rng.uniform(0.03, 0.2)
        colour = hsv(rng.choice([0.08, 0.1, 0.6]), rng.uniform(0.1, 0.5), rng.uniform(0.6, 0.92))
        box = [x - r, y - r * rng.uniform(0.6, 1), x + r, y + r * rng.uniform(0.6, 1)]
        if chance(rng, 0.5):
            ImageDraw.Draw(stain).ellipse(box, outline=colour, width=max(1, int(r * 0.12)))
        else:
            ImageDraw.Draw(stain).ellipse(box, fill=colour)
    soft = stain.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2.5)))
    return ImageChops.multiply(picture, soft.resize(picture.size, Image.Resampling.BILINEAR))


def rubbed(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Rub the print off along edges and corners."""
    small = (64, 64)
    mask = Image.new("L", small, int(rng.integers(90, 220)))
    inset = rng.uniform(1.5, 5)
    ImageDraw.Draw(mask).rounded_rectangle([inset, inset, 63 - inset, 63 - inset], rng.uniform(2, 16), fill=0)
    patchy = (rng.random(small) * 255).astype(np.uint8)
    mask = ImageChops.multiply(mask, Image.fromarray(patchy)).filter(ImageFilter.GaussianBlur(0.8))
    bare = Image.new("RGB", picture.size, (238, 236, 230))
    return Image.composite(bare, picture, mask.resize(picture.size, Image.Resampling.BILINEAR))


def laminated(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Let a film shine in broad slanting bands."""
    y, x = np.mgrid[0:40, 0:40] / 39
    turn = rng.uniform(0, np.pi)
    along = x * np.cos(turn) + y * np.sin(turn)
    shine = np.zeros((40, 40))
    for _ in range(int(rng.integers(1, 4))):
        shine += rng.uniform(30, 120) * np.exp(-(((along - rng.uniform(-0.3, 1.3)) / rng.uniform(0.02, 0.15)) ** 2))
    band = Image.fromarray(shine.clip(0, 255).astype(np.uint8)).resize(picture.size, Image.Resampling.BILINEAR)
    return ImageChops.screen(picture, Image.merge("RGB", [band] * 3))


EFFECTS: dict[Effect, float] = {
    scratched: 0.5,
    folded: 0.2,
    crumpled: 0.12,
    faded: 0.15,
    stained: 0.12,
    rubbed: 0.15,
    laminated: 0.12,
}
"""How often each effect befalls a document that is not as new."""
