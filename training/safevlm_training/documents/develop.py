"""What light, lens, sensor and file format do to a picture; the same for every kind."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from .streams import chance


def multiply(picture: Image.Image, light: Image.Image) -> Image.Image:
    """Darken by a grey map of any size."""
    grey = light if light.size == picture.size else light.resize(picture.size, Image.Resampling.BILINEAR)
    return ImageChops.multiply(picture, Image.merge("RGB", [grey] * 3))


def uneven_light(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Let brightness fall off towards one side, or under a soft-edged shadow."""
    y, x = np.mgrid[0:24, 0:24] / 23 - 0.5
    turn, deep = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.45)
    along = x * np.cos(turn) + y * np.sin(turn) + rng.uniform(-0.3, 0.3)
    if chance(rng, 0.4):
        along = 1 / (1 + np.exp(-along * 14)) - 0.5
    light = 255 * (1 - deep * np.clip(along + 0.5, 0, 1))
    return multiply(picture, Image.fromarray(light.astype(np.uint8)))


def glare(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Add one soft white reflection."""
    small = Image.new("L", (64, 64), 0)
    pen = ImageDraw.Draw(small)
    x, y, wide, high = (*rng.uniform(10, 54, 2), *rng.uniform(2, 13, 2))
    pen.ellipse([x - wide, y - high, x + wide, y + high], fill=int(rng.integers(90, 256)))
    soft = small.filter(ImageFilter.GaussianBlur(rng.uniform(1, 5))).rotate(rng.uniform(0, 180))
    spot = soft.resize(picture.size, Image.Resampling.BILINEAR)
    return ImageChops.screen(picture, Image.merge("RGB", [spot] * 3))


def tone(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Change exposure, contrast, gamma and colour cast with one table."""
    dim = rng.uniform(0.3, 0.6) if chance(rng, 0.1) else rng.uniform(0.85, 1.25)
    cast = 1 + rng.normal(0, 0.05, 3)
    contrast, gamma, lift = rng.uniform(0.8, 1.25), rng.uniform(0.75, 1.2), rng.uniform(0, 15)
    ramp = (np.arange(256) / 255) ** gamma
    table = [((ramp - 0.5) * contrast + 0.5) * dim * gain * 255 + lift for gain in cast]
    return picture.point(np.concatenate(table).clip(0, 255).astype(int).tolist())


def noise(rng: np.random.Generator, picture: Image.Image, strength: float) -> Image.Image:
    """Add sensor noise of this standard deviation in 8-bit steps."""
    tile = rng.normal(128, strength, (192, 192)).clip(0, 255).astype(np.uint8)
    rows, columns = -(-picture.height // 192) + 1, -(-picture.width // 192) + 1
    field = Image.fromarray(np.tile(tile, (rows, columns)))
    bands = []
    for _ in range(3):
        x, y = (int(n) for n in rng.integers(0, 192, 2))
        bands.append(field.crop((x, y, x + picture.width, y + picture.height)))
    return ImageChops.add(picture, Image.merge("RGB", bands), offset=-128)


def recompress(picture: Image.Image, quality: int) -> Image.Image:
    """Write and read a JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def shake(rng: np.random.Generator, picture: Image.Image, length: float) -> Image.Image:
    """Smear along one direction by this many pixels."""
    turn = rng.uniform(0, 2 * np.pi)
    smeared = picture
    for step in range(1, 6):
        dx, dy = (round(length * step / 5 * f(turn)) for f in (np.cos, np.sin))
        smeared = Image.blend(smeared, ImageChops.offset(picture, dx, dy), 1 / (step + 1))
    return smeared


def photocopy(rng: np.random.Generator, picture: Image.Image, softness: float) -> Image.Image:
    """Make a grey, hard copy with toner specks and streaks; the glass blurs by `softness` pixels."""
    soft = ImageOps.grayscale(picture).filter(ImageFilter.GaussianBlur(softness))
    grey = ImageOps.autocontrast(soft, cutoff=rng.uniform(0, 3))
    hard, middle = rng.uniform(1.1, 2.4), rng.uniform(80, 130)
    copy = grey.point([int(min(max((v - middle) * hard + 140, 12), 255)) for v in range(256)]).convert("RGB")
    pen = ImageDraw.Draw(copy, "RGBA")
    for _ in range(int(rng.integers(0, 5))):
        x = rng.uniform(0, copy.width)
        pen.line([x, 0, x, copy.height], fill=(30, 30, 30, int(rng.integers(20, 90))), width=1)
    return noise(rng, copy, rng.uniform(2, 14))


def moire(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Photograph it off a screen: fine grid, slow bands, a cold cast."""
    turn, period = rng.uniform(-0.12, 0.12), rng.uniform(2.3, 5.0)
    y, x = np.ogrid[0 : picture.height, 0 : picture.width]
    grid = np.cos((x * np.cos(turn) + y * np.sin(turn)) * 2 * np.pi / period, dtype=np.float32)
    band = np.cos((y + x * rng.uniform(-0.4, 0.4)) * 2 * np.pi / rng.uniform(30, 140), dtype=np.float32)
    light = 238 + rng.uniform(6, 22) * grid + rng.uniform(2, 8) * band
    lit = multiply(picture, Image.fromarray(light.clip(0, 255).astype(np.uint8)))
    return Image.blend(lit, Image.new("RGB", lit.size, (120, 150, 210)), rng.uniform(0, 0.12))


def develop(rng: np.random.Generator, picture: Image.Image, softness: float) -> Image.Image:
    """Finish a shot: light, reflection, blur of `softness` pixels, tone, noise, compression."""
    if chance(rng, 0.5):
        picture = uneven_light(rng, picture)
    if chance(rng, 0.22):
        picture = glare(rng, picture)
    if softness > 0.45:
        blur = chance(rng, 0.7)
        picture = picture.filter(ImageFilter.GaussianBlur(softness)) if blur else shake(rng, picture, softness * 3)
    picture = tone(rng, picture)
    if chance(rng, 0.5):
        picture = noise(rng, picture, rng.uniform(1.5, 14))
    if chance(rng, 0.6):
        picture = recompress(picture, int(rng.integers(28, 93)))
    return picture
