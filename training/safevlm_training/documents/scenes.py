"""Drawn scenes: harmless pictures in their own right, and what documents lie on."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .grounds import clouds, gradient
from .palette import hsv, mix
from .portraits import portrait
from .streams import chance
from .surfaces import Size, scatter, surface, wood
from .values import Colour

SCENES = ("hills", "sea", "street", "room", "bokeh", "gradient", "texture", "people", "windows", "table")


def draw_scene(rng: np.random.Generator, name: str, size: Size) -> Image.Image:
    """Draw one of `SCENES`, RGB, at a size in pixels."""
    return _DRAWN[name](rng, size)


def _sky(rng: np.random.Generator, size: Size) -> Image.Image:
    warm = chance(rng, 0.3)
    top = hsv(rng.uniform(0.55, 0.65), rng.uniform(0.2, 0.7), rng.uniform(0.4, 1))
    low = hsv(rng.uniform(0.02, 0.12) if warm else 0.58, rng.uniform(0.1, 0.5), rng.uniform(0.8, 1))
    picture = gradient(*size, top, low, np.pi / 2)
    return Image.blend(picture, clouds(rng, *size, 7, (top, (255, 255, 255))), rng.uniform(0, 0.5))


def _ridge(rng: np.random.Generator, width: int, level: float, swing: float) -> list[tuple[float, float]]:
    x = np.linspace(0, width, 60)
    y = level + sum(swing / k * np.sin(x / width * 2 * np.pi * k * 0.8 + rng.uniform(0, 6)) for k in (1, 2, 4, 7))
    return [tuple(p) for p in np.stack([x, y], 1).tolist()]


def _hills(rng: np.random.Generator, size: Size) -> Image.Image:
    width, height = size
    picture = _sky(rng, size)
    pen = ImageDraw.Draw(picture, "RGBA")
    if chance(rng, 0.6):
        x, y, r = width * rng.random(), height * rng.uniform(0.1, 0.4), height * 0.06
        pen.ellipse([x - r, y - r, x + r, y + r], fill=(255, 244, 200))
    hue = rng.uniform(0.15, 0.6)
    for step in range(int(rng.integers(3, 6))):
        colour = hsv(hue + step * 0.02, 0.3 + 0.1 * step, 0.75 - 0.12 * step)
        pen.polygon(
            [*_ridge(rng, width, height * (0.45 + 0.13 * step), height * 0.07), (width, height), (0, height)],
            fill=colour,
        )
    for _ in range(int(rng.integers(0, 22))):
        x, y = width * rng.random(), height * rng.uniform(0.6, 1)
        r = height * rng.uniform(0.02, 0.05)
        pen.regular_polygon((x, y, r), 3, fill=hsv(rng.uniform(0.22, 0.4), 0.6, rng.uniform(0.15, 0.45)))
    return picture


def _sea(rng: np.random.Generator, size: Size) -> Image.Image:
    width, height = size
    picture = _sky(rng, size)
    line = int(height * rng.uniform(0.35, 0.6))
    water = hsv(rng.uniform(0.45, 0.62), rng.uniform(0.4, 0.8), rng.uniform(0.3, 0.7))
    picture.paste(gradient(width, height - line, mix(water, (255, 255, 255), 0.3), water, np.pi / 2), (0, line))
    pen = ImageDraw.Draw(picture, "RGBA")
    for _ in range(60):
        depth = rng.random() ** 2
        x, y, reach = width * rng.random(), line + (height - line) * depth, width * (0.01 + 0.06 * depth)
        pen.line([x - reach, y, x + reach, y], fill=(255, 255, 255, 70), width=max(1, int(3 * depth)))
    for _ in range(int(rng.integers(0, 4))):
        x, r = width * rng.random(), height * rng.uniform(0.03, 0.1)
        pen.polygon([(x, line - 2 * r), (x + r, line - r * 0.3), (x, line - r * 0.3)], fill=(250, 248, 240))
        pen.polygon(
            [
                (x - r, line - r * 0.2),
                (x + r, line - r * 0.2),
                (x + r * 0.6, line + r * 0.2),
                (x - r * 0.6, line + r * 0.2),
            ],
            fill=(120, 60, 40),
        )
    return picture


def _street(rng: np.random.Generator, size: Size) -> Image.Image:
    width, height = size
    picture = _sky(rng, size)
    pen = ImageDraw.Draw(picture, "RGBA")
    ground = height * rng.uniform(0.72, 0.85)
    x = 0.0
    while x < width:
        wide, top = width * rng.uniform(0.1, 0.28), height * rng.uniform(0.1, 0.5)
        wall = hsv(rng.random(), rng.uniform(0.05, 0.5), rng.uniform(0.3, 0.9))
        pen.rectangle([x, top, x + wide, ground], fill=wall)
        step = wide / int(rng.integers(3, 6))
        for wx in np.arange(x + step * 0.3, x + wide - step * 0.5, step):
            for wy in np.arange(top + step * 0.4, ground - step, step * 1.3):
                lit = (255, 230, 150) if chance(rng, 0.3) else mix(wall, (20, 30, 50), 0.65)
                pen.rectangle([wx, wy, wx + step * 0.5, wy + step * 0.7], fill=lit)
        x += wide
    pen.rectangle([0, ground, width, height], fill=hsv(0.6, 0.05, rng.uniform(0.2, 0.5)))
    for _ in range(int(rng.integers(1, 5))):
        x, r, paint = width * rng.random(), height * 0.06, hsv(rng.random(), 0.8, 0.8)
        pen.rounded_rectangle([x, ground, x + 4 * r, ground + r], r * 0.3, fill=paint)
        pen.rounded_rectangle(
            [x + r * 0.8, ground - r * 0.7, x + 3 * r, ground + r * 0.2],
            r * 0.4,
            fill=mix(paint, (200, 220, 240), 0.5),
        )
        for wheel in (0.8, 3.1):
            pen.ellipse(
                [x + (wheel - 0.35) * r, ground + r * 0.6, x + (wheel + 0.35) * r, ground + r * 1.3],
                fill=(20, 20, 22),
            )
    return picture


def _room(rng: np.random.Generator, size: Size) -> Image.Image:
    width, height = size
    wall = hsv(rng.random(), rng.uniform(0.03, 0.35), rng.uniform(0.55, 0.97))
    picture = gradient(width, height, wall, mix(wall, (60, 50, 50), 0.35), rng.uniform(0, 3))
    line = int(height * rng.uniform(0.62, 0.78))
    picture.paste(wood(rng, (width, height - line)), (0, line))
    pen = ImageDraw.Draw(picture, "RGBA")
    for _ in range(int(rng.integers(1, 4))):
        wide, high = int(width * rng.uniform(0.1, 0.26)), int(height * rng.uniform(0.14, 0.3))
        x, y = int(rng.uniform(0, width - wide)), int(rng.uniform(0.04, 0.3) * height)
        pen.rectangle(
            [x - 4, y - 4, x + wide + 4, y + high + 4], fill=hsv(0.08, rng.uniform(0, 0.6), rng.uniform(0.1, 0.9))
        )
        art = portrait(rng, wide, high) if chance(rng, 0.3) else _hills(rng, (wide, high))
        picture.paste(art, (x, y))
    _furniture(rng, pen, size, line)
    return picture


def _furniture(rng: np.random.Generator, pen: ImageDraw.ImageDraw, size: Size, line: int) -> None:
    """Draw a sofa and a lamp that stand on the line where wall and floor meet."""
    width, height = size
    x, wide, high = width * rng.uniform(0, 0.5), width * rng.uniform(0.3, 0.5), height * 0.22
    seat = hsv(rng.random(), rng.uniform(0.2, 0.7), rng.uniform(0.3, 0.8))
    pen.rounded_rectangle([x, line - high, x + wide, line + high * 0.4], 16, fill=seat)
    pen.rounded_rectangle([x, line - high * 0.2, x + wide, line + high * 0.5], 16, fill=mix(seat, (0, 0, 0), 0.2))
    x = width * rng.uniform(0.6, 0.95)
    pen.line([x, line - height * 0.35, x, line + height * 0.05], fill=(60, 50, 40), width=max(2, width // 120))
    pen.polygon(
        [
            (x - width * 0.06, line - height * 0.3),
            (x + width * 0.06, line - height * 0.3),
            (x + width * 0.03, line - height * 0.44),
            (x - width * 0.03, line - height * 0.44),
        ],
        fill=(250, 230, 180),
    )


def _bokeh(rng: np.random.Generator, size: Size) -> Image.Image:
    width, height = size
    hue = rng.random()
    picture = gradient(width, height, hsv(hue, 0.7, 0.12), hsv(hue + 0.2, 0.6, 0.4), rng.uniform(0, 6))
    pen = ImageDraw.Draw(picture, "RGBA")
    for _ in range(int(rng.integers(12, 46))):
        x, y, r = width * rng.random(), height * rng.random(), height * rng.uniform(0.01, 0.09)
        pen.ellipse(
            [x - r, y - r, x + r, y + r],
            fill=(*hsv(hue + rng.uniform(-0.2, 0.2), 0.5, 1), int(rng.integers(40, 170))),
        )
    return picture.filter(ImageFilter.BoxBlur(rng.uniform(0, 4)))


def _gradient(rng: np.random.Generator, size: Size) -> Image.Image:
    first, second = (hsv(rng.random(), rng.random(), rng.uniform(0.2, 1)) for _ in range(2))
    picture = gradient(*size, first, second, rng.uniform(0, 6.3))
    if chance(rng, 0.5):
        pen = ImageDraw.Draw(picture, "RGBA")
        for _ in range(int(rng.integers(1, 9))):
            x, y, r = rng.uniform(0, size[0]), rng.uniform(0, size[1]), min(size) * rng.uniform(0.05, 0.3)
            pen.regular_polygon((x, y, r), int(rng.integers(3, 9)), fill=(*hsv(rng.random(), rng.random(), 1), 200))
    return picture


def _people(rng: np.random.Generator, size: Size) -> Image.Image:
    """Draw one large face or a group in front of a scene: a face alone is harmless."""
    width, height = size
    count = int(rng.integers(1, 5))
    if count == 1 and chance(rng, 0.7):
        return portrait(rng, width, height)
    picture = _DRAWN[("hills", "sea", "room", "bokeh")[int(rng.integers(4))]](rng, size)
    for spot in range(count):
        wide = int(min(width / count * 0.92, height * rng.uniform(0.45, 0.7)))
        high = int(wide / 0.8)
        mask = Image.new("L", (wide, high), 0)
        pen = ImageDraw.Draw(mask)
        pen.ellipse([wide * 0.21, high * 0.13, wide * 0.79, high * 0.77], fill=255)
        pen.ellipse([wide * 0.03, high * 0.7, wide * 0.97, high * 1.6], fill=255)
        picture.paste(portrait(rng, wide, high), (int(width * (spot + 0.5) / count - wide / 2), height - high), mask)
    return picture


def _windows(rng: np.random.Generator, size: Size) -> Image.Image:
    """Draw a computer desktop with windows, text lines and pictures."""
    width, height = size
    picture = _DRAWN[("hills", "gradient", "bokeh", "sea")[int(rng.integers(4))]](rng, size)
    pen = ImageDraw.Draw(picture, "RGBA")
    dark = chance(rng, 0.4)
    sheet: Colour = (36, 38, 44) if dark else (246, 246, 248)
    line: Colour = (150, 152, 160) if dark else (90, 92, 100)
    for _ in range(int(rng.integers(1, 5))):
        x, y = width * rng.uniform(0, 0.6), height * rng.uniform(0, 0.55)
        wide, high = width * rng.uniform(0.3, 0.7), height * rng.uniform(0.3, 0.7)
        pen.rectangle([x, y, x + wide, y + high], fill=sheet, outline=line)
        pen.rectangle([x, y, x + wide, y + height * 0.045], fill=hsv(rng.random(), rng.uniform(0, 0.6), 0.6))
        for dot in range(3):
            spot = x + wide - height * 0.04 * (dot + 1)
            pen.ellipse([spot, y + height * 0.012, spot + height * 0.02, y + height * 0.032], fill=(240, 240, 240))
        for row in np.arange(y + height * 0.08, y + high - height * 0.04, height * 0.035):
            start = x + wide * 0.05
            pen.rectangle([start, row, start + wide * rng.uniform(0.2, 0.85), row + height * 0.012], fill=line)
        if chance(rng, 0.5):
            view = (int(wide * 0.4) + 1, int(high * 0.4) + 1)
            picture.paste(_hills(rng, view), (int(x + wide * 0.5), int(y + high * 0.3)))
    pen.rectangle([0, height * 0.94, width, height], fill=(20, 22, 30, 210))
    return picture


def _table(rng: np.random.Generator, size: Size) -> Image.Image:
    picture = surface(rng, size)
    scatter(rng, picture, int(rng.integers(0, 9)))
    return picture


_DRAWN = {
    "hills": _hills,
    "sea": _sea,
    "street": _street,
    "room": _room,
    "bokeh": _bokeh,
    "gradient": _gradient,
    "texture": surface,
    "people": _people,
    "windows": _windows,
    "table": _table,
}
