"""Drawn faces with many skins, hair styles and clothes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from .palette import hsv, mix
from .streams import chance, pick
from .values import Colour

SKINS: tuple[Colour, ...] = (
    (252, 222, 198), (241, 194, 160), (224, 172, 130), (198, 134, 92), (161, 102, 66), (120, 74, 48), (84, 52, 36),
)  # fmt: skip
HAIRS: tuple[Colour, ...] = (
    (24, 20, 20), (52, 34, 24), (92, 58, 34), (146, 98, 54), (206, 164, 100), (150, 60, 34), (170, 170, 172),
)  # fmt: skip
CUTS = ("short", "short", "long", "bob", "bald", "curls", "scarf", "bun")


@dataclass(frozen=True, slots=True)
class _Head:
    """Where the head is on the pen's picture, in pixels, and what colours it has."""

    x: float
    y: float
    rx: float
    ry: float
    skin: Colour
    hair: Colour
    cloth: Colour
    cut: str

    def ellipse(self, x: float, y: float, rx: float, ry: float) -> tuple[float, float, float, float]:
        """Place an ellipse in units of the head's half axes around its centre."""
        cx, cy = self.x + x * self.rx, self.y + y * self.ry
        return cx - rx * self.rx, cy - ry * self.ry, cx + rx * self.rx, cy + ry * self.ry


def portrait(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Draw a head and shoulders, front view, RGB, finished like a small printed photograph."""
    scale = 2
    wide, high = width * scale, height * scale
    picture = Image.new("RGB", (wide, high), hsv(rng.random(), rng.uniform(0, 0.25), rng.uniform(0.62, 0.97)))
    unit = min(wide, high * 0.8)
    head = _Head(
        wide * (0.5 + rng.uniform(-0.02, 0.02)),
        high * rng.uniform(0.41, 0.47),
        unit * rng.uniform(0.21, 0.25),
        unit * rng.uniform(0.28, 0.33),
        _vary(rng, SKINS),
        _vary(rng, HAIRS),
        hsv(rng.random(), rng.uniform(0.05, 0.7), rng.uniform(0.15, 0.9)),
        pick(rng, CUTS),
    )
    pen = ImageDraw.Draw(picture, "RGBA")
    _back_hair(pen, head)
    _shoulders(rng, pen, head, high)
    _face(rng, pen, head)
    _front_hair(rng, pen, head)
    return _finish(rng, picture.reduce(scale))


def _vary(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    first, second = (colours[int(rng.integers(len(colours)))] for _ in range(2))
    return mix(first, second, rng.uniform(0, 0.3))


def _back_hair(pen: ImageDraw.ImageDraw, head: _Head) -> None:
    if head.cut == "long":
        pen.rounded_rectangle(head.ellipse(0, 0.45, 1.22, 1.5), head.rx, fill=head.hair)
    elif head.cut == "bob":
        pen.rounded_rectangle(head.ellipse(0, 0.0, 1.25, 1.12), head.rx * 0.9, fill=head.hair)
    elif head.cut == "scarf":
        pen.ellipse(head.ellipse(0, 0.1, 1.36, 1.36), fill=head.cloth)
    elif head.cut == "bun":
        pen.ellipse(head.ellipse(0, -1.18, 0.5, 0.38), fill=head.hair)


def _shoulders(rng: np.random.Generator, pen: ImageDraw.ImageDraw, head: _Head, high: int) -> None:
    low = (high - head.y) / head.ry
    shade = mix(head.skin, (60, 30, 20), 0.22)
    pen.rectangle(head.ellipse(0, 1.0, 0.44, 0.6), fill=shade)
    pen.ellipse(head.ellipse(0, low + 0.12, 2.0, low - 1.12 + 0.12), fill=head.cloth)
    pen.ellipse(head.ellipse(0, 1.36, 0.56, 0.3), fill=shade)
    if chance(rng, 0.5):
        light = mix(head.cloth, (255, 255, 255), 0.75)
        base = head.y + 1.45 * head.ry
        for side in (-1, 1):
            pen.polygon(
                [
                    (head.x + side * 0.5 * head.rx, base - 0.15 * head.ry),
                    (head.x, base + 0.55 * head.ry),
                    (head.x + side * 0.85 * head.rx, base + 0.5 * head.ry),
                ],
                fill=light,
            )


def _face(rng: np.random.Generator, pen: ImageDraw.ImageDraw, head: _Head) -> None:
    for side in (-1, 1):
        pen.ellipse(head.ellipse(side, 0.08, 0.16, 0.2), fill=mix(head.skin, (90, 40, 30), 0.15))
    turn = np.linspace(0, 2 * np.pi, 48)
    narrow = 1 - rng.uniform(0.08, 0.25) * np.maximum(np.sin(turn), 0) ** 2
    outline = np.stack([head.x + head.rx * np.cos(turn) * narrow, head.y + head.ry * np.sin(turn)], axis=1)
    pen.polygon([tuple(p) for p in outline.tolist()], fill=head.skin)
    eye, apart = rng.uniform(-0.08, 0.04), rng.uniform(0.36, 0.46)
    iris = hsv(rng.uniform(0.05, 0.62), 0.5, rng.uniform(0.15, 0.6))
    brow = mix(head.hair, (30, 20, 20), 0.3)
    for side in (-1, 1):
        pen.ellipse(head.ellipse(side * apart, eye, 0.17, 0.065), fill=(246, 244, 240))
        pen.ellipse(head.ellipse(side * apart, eye, 0.075, 0.062), fill=iris)
        pen.ellipse(head.ellipse(side * apart, eye, 0.035, 0.03), fill=(10, 10, 10))
        pen.arc(
            head.ellipse(side * apart, eye - 0.06, 0.24, 0.12), 200, 340, fill=brow, width=max(2, int(head.ry * 0.05))
        )
    shade = mix(head.skin, (70, 30, 25), 0.35)
    pen.arc(head.ellipse(0, 0.2, 0.16, 0.15), 20, 160, fill=shade, width=max(1, int(head.ry * 0.03)))
    pen.line(
        [head.x + 0.05 * head.rx, head.y, head.x + 0.12 * head.rx, head.y + 0.26 * head.ry],
        fill=(*shade, 90),
        width=2,
    )
    if chance(rng, 0.28) and head.cut != "scarf":
        _beard(pen, head)
    lips = mix(head.skin, (160, 30, 50), rng.uniform(0.3, 0.7))
    pen.chord(head.ellipse(0, 0.52, rng.uniform(0.24, 0.34), 0.1), 10, 170, fill=lips)
    if chance(rng, 0.25):
        frame = (30, 30, 36) if chance(rng, 0.7) else (150, 110, 60)
        for side in (-1, 1):
            pen.ellipse(head.ellipse(side * apart, eye, 0.3, 0.17), outline=frame, width=max(2, int(head.ry * 0.035)))


def _beard(pen: ImageDraw.ImageDraw, head: _Head) -> None:
    pen.chord(head.ellipse(0, 0.3, 0.86, 0.72), 12, 168, fill=(*head.hair, 215))
    pen.chord(head.ellipse(0, 0.42, 0.42, 0.14), 180, 360, fill=(*head.hair, 215))


def _front_hair(rng: np.random.Generator, pen: ImageDraw.ImageDraw, head: _Head) -> None:
    if head.cut == "bald":
        return
    if head.cut == "scarf":
        pen.arc(head.ellipse(0, 0.05, 1.2, 1.22), 150, 390, fill=head.cloth, width=int(head.rx * 0.34))
        return
    if head.cut == "curls":
        for turn in np.linspace(np.pi * 0.95, np.pi * 2.05, 11):
            spot = head.ellipse(float(np.cos(turn)) * 0.98, float(np.sin(turn)) * 0.88, 0.34, 0.3)
            pen.ellipse(spot, fill=head.hair)
        return
    line, lean = rng.uniform(-0.62, -0.42), rng.uniform(-0.25, 0.25)
    turn = np.linspace(np.pi * 0.97, np.pi * 2.03, 30)
    crown = np.stack([np.cos(turn) * 1.1, np.sin(turn) * 1.12], axis=1)
    across = np.linspace(1.0, -1.0, 12)
    fringe = np.stack([across, line + lean * across + 0.35 * across**2], axis=1)
    shape = np.concatenate([crown, fringe]) * [head.rx, head.ry] + [head.x, head.y]
    pen.polygon([tuple(p) for p in shape.tolist()], fill=head.hair)


def _finish(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Light it from one side; now and then make it a grey, soft or grainy print."""
    side = Image.fromarray(np.linspace(rng.uniform(150, 235), 255, 16, dtype=np.float32)[None].astype(np.uint8))
    side = ImageOps.mirror(side) if chance(rng, 0.5) else side
    light = side.resize(picture.size, Image.Resampling.BILINEAR)
    picture = ImageChops.multiply(picture, Image.merge("RGB", [light] * 3))
    if chance(rng, 0.5):
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.2)))
    if chance(rng, 0.3):
        grey = ImageOps.grayscale(picture)
        picture = ImageOps.colorize(grey, hsv(rng.random(), 0.2, 0.1), hsv(rng.random(), 0.06, 0.95))
    if chance(rng, 0.5):
        grain = rng.normal(128, rng.uniform(4, 14), (picture.height, picture.width)).clip(0, 255).astype(np.uint8)
        picture = ImageChops.add(picture, Image.merge("RGB", [Image.fromarray(grain)] * 3), offset=-128)
    return picture
