"""The pictures that are judged: the user's own files as they are, or drawn ones that weigh what photographs weigh."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from safevlm_sdk.errors import BenchmarkError

SIZES = {"0.3 MP": (640, 480), "2 MP": (1632, 1224), "12 MP": (4000, 3000)}
FORMATS = {"JPEG": "jpg", "PNG": "png", "WebP": "webp"}
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")
MOST = 24  # files of the user's own

_QUALITY = 90
_LEAVES = 4900  # per million pixels
_SMALLEST = 5.0  # radius, in pixels
_NOISE = 3.5  # standard deviation of what a sensor adds, of 255


def own_pictures(folder: Path) -> list[Path]:
    """At most `MOST` image files of a folder, spread over its sorted list.

    Raises:
        BenchmarkError: It is no folder, or holds none.
    """
    if not folder.is_dir():
        raise BenchmarkError(f"{folder}: is no folder; give --images a folder of images, or leave it out")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise BenchmarkError(f"{folder}: holds no {', '.join(SUFFIXES)}; give --images another folder")
    wanted = min(MOST, len(files))
    return [files[index * len(files) // wanted] for index in range(wanted)]


def drawn_pictures(folder: Path) -> Iterator[Path]:
    """Writes a drawn picture of every size in every format into a folder."""
    for name, size in SIZES.items():
        picture = draw_picture(*size)
        for kind, suffix in FORMATS.items():
            path = folder / f"drawn {name}.{suffix}"
            options = {} if kind == "PNG" else {"quality": _QUALITY}
            picture.save(path, format=kind, **options)
            yield path


def draw_picture(width: int, height: int) -> Image.Image:
    """A picture that is the same every time, with the edges, the spectrum and the noise of a photograph.

    Discs of one colour whose radii follow a power law cover each other like fallen leaves, which gives natural images
    their edges and a power spectrum that falls with the square of the frequency; shading, a lens's softness and a
    sensor's noise follow.
    """
    rng = np.random.default_rng(width * height)
    softened = _leaves(rng, width, height).filter(ImageFilter.GaussianBlur(0.6))
    light = _shading(rng, width, height) + _NOISE * rng.standard_normal((height, width), dtype=np.float32)
    pixels = np.asarray(softened, dtype=np.float32) + light[:, :, None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _leaves(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    picture = Image.new("RGB", (width, height), (110, 105, 95))
    pen = ImageDraw.Draw(picture)
    count, smallest, largest = round(_LEAVES * width * height / 1e6), _SMALLEST, 0.3 * width
    # Numbers of discs fall with the third power of the radius, so that every scale covers the same area.
    share = rng.random(count)
    radii = (smallest**-2 - share * (smallest**-2 - largest**-2)) ** -0.5
    places = rng.random((count, 2)) * (width, height)
    lights = rng.uniform(25, 230, count)
    tints = rng.normal(0, 14, (count, 3))
    for radius, (x, y), colour in zip(radii, places, lights[:, None] + tints, strict=True):
        red, green, blue = (int(value) for value in np.clip(colour, 0, 255))
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(red, green, blue))
    return picture


def _shading(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Light and texture, float32 [height, width]: octaves of noise, each half as strong as the one before."""
    light = np.zeros((height, width), dtype=np.float32)
    columns, strength = 4, 24.0
    while columns < width // 2:
        rows = max(2, columns * height // width)
        coarse = Image.fromarray(rng.standard_normal((rows, columns), dtype=np.float32) * strength)
        light += np.asarray(coarse.resize((width, height), Image.Resampling.BILINEAR))
        columns, strength = columns * 2, strength / 2
    return light
