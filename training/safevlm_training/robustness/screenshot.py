"""A picture as it looks on a screenshot: one window among others, with bars, borders and lines of text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from safevlm_training.robustness.effects import Pixels

SCREEN = (1024, 640)
BAR = 36
SIDEBAR = 0.18
BORDER = 8
BUTTONS = ((236, 96, 88), (244, 190, 70), (98, 197, 84))


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """Colours of a desktop."""

    desk: tuple[int, int, int]
    window: tuple[int, int, int]
    ink: tuple[int, int, int]


THEMES = (
    Theme(desk=(232, 234, 240), window=(255, 255, 255), ink=(120, 124, 132)),
    Theme(desk=(24, 26, 32), window=(40, 42, 50), ink=(150, 154, 164)),
    Theme(desk=(38, 84, 124), window=(246, 246, 246), ink=(90, 96, 110)),
)


def screenshot(pixels: Pixels, rng: np.random.Generator, *, share: float) -> Pixels:
    """Shows the picture in a window of a 1024 x 640 screen, with about `share` of the screen's sides to fit into."""
    theme = THEMES[int(rng.integers(len(THEMES)))]
    screen = Image.new("RGB", SCREEN, theme.desk)
    pen = ImageDraw.Draw(screen)
    shown = _fitted(pixels, share)
    width, height = shown.width + 2 * BORDER, shown.height + 2 * BORDER + BAR
    left, top = (int(rng.integers(max(1, free))) for free in (SCREEN[0] - width, SCREEN[1] - height))
    _text(pen, rng, theme)
    pen.rectangle((left, top, left + width - 1, top + height - 1), fill=theme.window, outline=theme.ink)
    for place, colour in enumerate(BUTTONS):
        x, y = left + 18 + 22 * place, top + BAR // 2
        pen.ellipse((x - 6, y - 6, x + 6, y + 6), fill=colour)
    screen.paste(shown, (left + BORDER, top + BORDER + BAR))
    return np.asarray(screen)


def _fitted(pixels: Pixels, share: float) -> Image.Image:
    """The picture, enlarged or shrunk to fit into `share` of what a window can hold."""
    height, width = pixels.shape[:2]
    room = ((SCREEN[0] - 2 * BORDER) * share, (SCREEN[1] - 2 * BORDER - BAR) * share)
    scale = min(room[0] / width, room[1] / height)
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def _text(pen: ImageDraw.ImageDraw, rng: np.random.Generator, theme: Theme) -> None:
    """A window of another program behind, with bars where its words would be."""
    pen.rectangle((0, 0, SCREEN[0], BAR), fill=theme.window)
    pen.rectangle((0, BAR, int(SIDEBAR * SCREEN[0]), SCREEN[1]), fill=theme.window)
    for y in range(BAR + 20, SCREEN[1] - 12, 24):
        pen.rectangle((16, y, 16 + int(rng.integers(40, 150)), y + 7), fill=theme.ink)
        start = int(SIDEBAR * SCREEN[0]) + 24
        pen.rectangle((start, y, start + int(rng.integers(200, 700)), y + 7), fill=theme.ink)
