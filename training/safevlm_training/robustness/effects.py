"""What happens to pictures between a camera and a gate: pure functions from one raster to another.

Every function takes uint8 pixels [H, W, 3] and a generator, which most of them ignore, and gives uint8 pixels whose
size may differ. They share no code with the generator of invented documents, which a gate may have been trained on.
"""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from safevlm_sdk.raster import capped

Pixels = NDArray[np.uint8]

DISPLAY_GAMMA = 2.2
SHOT_NOISE = 0.01
READ_NOISE = 0.003


def jpeg(pixels: Pixels, rng: np.random.Generator, *, quality: int) -> Pixels:
    """Writes and reads a JPEG file of this quality, with halved colour as most writers do."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def shrink(pixels: Pixels, rng: np.random.Generator, *, share: float) -> Pixels:
    """Makes both sides `share` of their length."""
    height, width = (max(1, round(side * share)) for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def messenger(pixels: Pixels, rng: np.random.Generator, *, long_side: int, quality: int) -> Pixels:
    """Shrinks to a longest side and compresses, as messengers do; a smaller picture is only compressed."""
    return jpeg(capped(pixels, long_side), rng, quality=quality)


def blur(pixels: Pixels, rng: np.random.Generator, *, share: float) -> Pixels:
    """Gaussian blur; its deviation is `share` of the longer side."""
    radius = share * max(pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def noise(pixels: Pixels, rng: np.random.Generator, *, deviation: float) -> Pixels:
    """Adds independent Gaussian noise of this deviation, in steps of 255, to every value."""
    return _to_bytes(pixels + deviation * rng.standard_normal(pixels.shape, dtype=np.float32))


def low_light(pixels: Pixels, rng: np.random.Generator, *, stops: float) -> Pixels:
    """Takes 2 ** -stops of the light, and lets the sensor's noise, which does not fall with it, show."""
    light = (pixels / np.float32(255)) ** DISPLAY_GAMMA * np.float32(2.0**-stops)
    deviation = np.sqrt(SHOT_NOISE**2 * light + READ_NOISE**2)
    light += deviation * rng.standard_normal(pixels.shape, dtype=np.float32)
    return _to_bytes(255 * np.maximum(light, 0) ** (1 / DISPLAY_GAMMA))


def motion(pixels: Pixels, rng: np.random.Generator, *, share: float) -> Pixels:
    """Smears along a random direction, over `share` of the longer side."""
    height, width = pixels.shape[:2]
    length = max(2, round(share * max(height, width)))
    turn = rng.uniform(0, np.pi)
    margin = length // 2 + 1
    wide = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    total = np.zeros(pixels.shape, dtype=np.float32)
    for place in np.linspace(-length / 2, length / 2, length):
        top, left = (margin + round(place * along) for along in (np.sin(turn), np.cos(turn)))
        total += wide[top : top + height, left : left + width]
    return _to_bytes(total / length)


def rotate(pixels: Pixels, rng: np.random.Generator, *, degrees: float) -> Pixels:
    """Turns by this angle to either side; nothing is cut off, and corners get the mean colour."""
    turned = degrees if rng.integers(2) else -degrees
    if degrees % 90 == 0:
        straight: Pixels = np.rot90(pixels, round(turned / 90))
        return straight
    mean = tuple(int(value) for value in pixels.mean(axis=(0, 1)).round())
    image = Image.fromarray(pixels)
    return np.asarray(image.rotate(turned, Image.Resampling.BICUBIC, expand=True, fillcolor=mean))


def crop(pixels: Pixels, rng: np.random.Generator, *, share: float, central: bool) -> Pixels:
    """Keeps `share` of the area, in the middle or in a random corner."""
    height, width = pixels.shape[:2]
    kept = [max(1, round(side * math.sqrt(share))) for side in (height, width)]
    free = (height - kept[0], width - kept[1])
    top, left = (side // 2 if central else side * int(rng.integers(2)) for side in free)
    return pixels[top : top + kept[0], left : left + kept[1]]


def _to_bytes(values: NDArray[np.floating]) -> Pixels:
    whole: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return whole
