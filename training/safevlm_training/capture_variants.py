"""Invented captures of an image: how it might have come out of another camera, light or file.

They multiply real photographs, of which there are few, by what real capture does to them. A capture shows what its
image shows: nothing is mirrored, turned over, or cut by more than a narrow edge.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safevlm_training.documents.develop import develop, moire
from safevlm_training.documents.streams import chance

# Of what follows and of the effects that it uses: rows of another version are computed again.
CAPTURE_VERSION = 1

MAX_TURN = 0.12
SHOWN = (0.84, 1.0)
SIDEWAYS = 0.03
RESOLUTION = (0.4, 1.0)
SOFT_SIDE = 800
MIN_SIDE = 16


def capture_variant(pixels: NDArray[np.uint8], key: str, number: int) -> NDArray[np.uint8]:
    """Captures an image once more: frame, resolution, screen, light, reflection, blur, tone, noise and compression.

    Args:
        pixels: [H, W, 3].
        key: Of the image, such as the sha256 of its file.
        number: Of the capture; key and number alone decide what happens to the image.

    Returns:
        [H, W, 3], of another and never a larger size (sides below 16 pixels aside).
    """
    hashed = hashlib.sha256(f"{CAPTURE_VERSION}\0{key}\0{number}".encode()).digest()
    rng = np.random.default_rng(list(hashed))
    picture = _scaled(rng, _framed(rng, Image.fromarray(pixels)))
    if chance(rng, 0.07):
        picture = moire(rng, picture)
    softness = rng.exponential(0.5) if chance(rng, 0.75) else rng.uniform(0, 3)
    developed = develop(rng, picture, float(softness) * max(picture.size) / SOFT_SIDE)
    return np.array(developed, dtype=np.uint8)


def _framed(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Moves the camera: a little nearer, turned, to one side; nothing is made up around the picture."""
    size = np.array(picture.size, dtype=np.float64)
    shown = rng.uniform(*SHOWN)
    turn = float(np.clip(rng.normal(0, MAX_TURN / 2), -MAX_TURN, MAX_TURN))
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * size * shown / 2 @ rotation
    centre = size / 2 * (1 + rng.uniform(-1, 1, 2) * (1 - shown))
    corners = np.clip(corners + centre + rng.uniform(-SIDEWAYS, SIDEWAYS, (4, 2)) * size, 0, size)
    width, height = (max(1, round(side * shown)) for side in picture.size)
    return picture.transform(
        (width, height), Image.Transform.QUAD, corners.ravel().tolist(), Image.Resampling.BICUBIC
    )


def _scaled(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Lowers the resolution of every second picture."""
    scale = rng.uniform(*RESOLUTION) if chance(rng, 0.5) else 1.0
    width, height = (max(MIN_SIDE, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BILINEAR)
