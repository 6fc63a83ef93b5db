"""Where flat artwork lands on a picture, and how it gets there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from .streams import chance
from .values import Artwork, Box
from .wear import worn

Points = NDArray[np.float64]
"""Corners in pixels, [N, 2]."""


def pose(
    rng: np.random.Generator, frame: tuple[int, int], art: tuple[int, int], covers: float, *, flat: bool, spill: bool
) -> Points:
    """Choose where the four corners (from the upper left, clockwise) of artwork land; [4, 2], pixels."""
    ratio = art[0] / art[1]
    wide = np.sqrt(covers * frame[0] * frame[1] * ratio)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [wide / 2, wide / ratio / 2]
    if not flat:
        yaw, pitch = np.clip(rng.normal(0, 0.3, 2), -0.75, 0.75)
        depth = 1 + (corners[:, 0] * np.sin(yaw) + corners[:, 1] * np.sin(pitch)) / (1.9 * max(wide, wide / ratio))
        corners = corners * [np.cos(yaw), np.cos(pitch)] / depth[:, None]
    roll = rng.normal(0, 0.03 if flat else 0.17)
    if chance(rng, 0.1):
        roll += np.pi / 2 * int(rng.integers(1, 4))
    elif not flat and chance(rng, 0.12):
        roll = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    corners = corners @ turn
    reach = corners.max(0) - corners.min(0)
    corners *= min(1.0, *(np.array(frame) * 0.98 / reach))
    half = (corners.max(0) - corners.min(0)) / 2
    room = np.maximum(np.array(frame) / 2 - half, 0) + (half * 0.7 if spill else 0)
    middle = (corners.max(0) + corners.min(0)) / 2
    centre: Points = np.array(frame) / 2 - middle + rng.uniform(-1, 1, 2) * room
    landed: Points = corners + centre
    return landed


def _homography(source: Points, target: Points) -> list[float]:
    rows = []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    solved: list[float] = np.linalg.solve(np.array(rows), target.ravel()).tolist()
    return solved


def through(quad: Points, box: Box) -> Points:
    """Find the corners of a box, in fractions of the artwork, on the picture."""
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    a, b, c, d, e, f, g, h = _homography(unit, quad)
    x = np.array([box[0], box[2], box[2], box[0]])
    y = np.array([box[1], box[1], box[3], box[3]])
    below = g * x + h * y + 1
    return np.stack([(a * x + b * y + c) / below, (d * x + e * y + f) / below], axis=1)


def place(rng: np.random.Generator, frame: Image.Image, art: Artwork, quad: Points, *, shadow: bool = True) -> None:
    """Warp artwork onto the frame, above its own shadow, slightly worn."""
    left, top = np.floor(np.maximum(quad.min(0) - 2, 0)).astype(int).tolist()
    right, bottom = np.ceil(np.minimum(quad.max(0) + 2, frame.size)).astype(int).tolist()
    if right - left < 2 or bottom - top < 2:
        return
    if shadow and art.mask is None and chance(rng, 0.75):
        _shadow(rng, frame, quad)
    edge = max(np.linalg.norm(quad[1] - quad[0]), np.linalg.norm(quad[2] - quad[3]))
    card = worn(rng, art.image)
    scale = edge / card.width
    if scale < 0.8:
        card = card.resize((max(4, round(card.width * scale * 1.1)), max(4, round(card.height * scale * 1.1))))
    mask = card_mask(art, card.size)
    pad = 2
    pixels = np.dstack(
        [np.pad(np.asarray(card), ((pad, pad), (pad, pad), (0, 0)), mode="edge"), np.pad(np.asarray(mask), pad)]
    )
    corners = np.array([[0, 0], [card.width, 0], [card.width, card.height], [0, card.height]], float) + pad
    window = (right - left, bottom - top)
    warped = Image.fromarray(pixels).transform(
        window, Image.Transform.PERSPECTIVE, _homography(quad - [left, top], corners), Image.Resampling.BILINEAR
    )
    frame.paste(warped.convert("RGB"), (left, top), warped.getchannel("A"))


def card_mask(art: Artwork, size: tuple[int, int]) -> Image.Image:
    """Make a mask of this size, white where the document is."""
    if art.mask is not None:
        return art.mask.resize(size)
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rounded_rectangle([0, 0, size[0] - 1, size[1] - 1], art.radius * min(size), fill=255)
    return mask


def _shadow(rng: np.random.Generator, frame: Image.Image, quad: Points) -> None:
    small = Image.new("L", (frame.width // 4 + 1, frame.height // 4 + 1), 255)
    shift = rng.normal(0, 0.012, 2) * max(frame.size)
    points = [tuple(p) for p in ((quad + shift) / 4).tolist()]
    ImageDraw.Draw(small).polygon(points, fill=int(rng.integers(90, 200)))
    soft = small.filter(ImageFilter.BoxBlur(rng.uniform(1.5, 6))).resize(frame.size, Image.Resampling.BILINEAR)
    frame.paste(ImageChops.multiply(frame, Image.merge("RGB", [soft] * 3)))


def clipped(quad: Points, size: tuple[int, int]) -> Points:
    """Cut a polygon at the picture's four edges (Sutherland and Hodgman)."""
    polygon = [np.array(p) for p in quad]
    for axis, limit, sign in ((0, 0, 1), (1, 0, 1), (0, size[0], -1), (1, size[1], -1)):
        kept = []
        for here, there in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            a, b = (here[axis] - limit) * sign, (there[axis] - limit) * sign
            if a >= 0:
                kept.append(here)
            if (a >= 0) != (b >= 0):
                kept.append(here + (there - here) * a / (a - b))
        polygon = kept
        if not polygon:
            return np.zeros((1, 2))
    return np.array(polygon)


def polygon_area(polygon: Points) -> float:
    """Measure a polygon by the shoelace formula."""
    x, y = polygon[:, 0], polygon[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
