"""Web pages and screens of applications with nothing private on them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from .canvas import Canvas
from .design import Design, blank
from .ornaments import logo, symbol
from .palette import hsv, ink_on, mix
from .portraits import portrait
from .scenes import SCENES, draw_scene
from .scripts import in_script
from .streams import chance, pick
from .text import digits, name, words
from .values import Artwork, Box, Colour

LEAST = 0.3
RATIOS = (16 / 9, 16 / 10, 4 / 3, 9 / 16, 0.5)
STYLES = ("article", "shop", "table", "chart", "map", "settings", "video")


def screen_page(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a web page or an application: an article, a shop, a table, a chart, a map, settings or a video."""
    plan = design.plan()
    dark = chance(plan, 0.3)
    sheet: Colour = (
        (28, 30, 36) if dark else mix((255, 255, 255), design.scheme.ground, 0.1 if chance(plan, 0.8) else 1)
    )
    canvas = blank(design.sides(RATIOS[int(plan.integers(len(RATIOS)))]), sheet)
    style = pick(plan, STYLES)
    body = _chrome(canvas, design, rng, plan)
    _DRAWN[style](canvas, design, rng, body)
    return design.done(canvas, least=LEAST, style=style, dark=str(dark).lower())


def _ink(canvas: Canvas, area: Box) -> Colour:
    x0, y0, _, _ = canvas.box(area)
    ground = canvas.image.getpixel((min(x0, canvas.width - 1), min(y0, canvas.height - 1)))
    return ink_on(ground if isinstance(ground, tuple) and len(ground) == 3 else (255, 255, 255))


def _chrome(canvas: Canvas, design: Design, rng: np.random.Generator, plan: np.random.Generator) -> Box:
    """Draw bars and menus around the content; return the area that remains."""
    top, left = plan.uniform(0.07, 0.12), 0.0
    canvas.fill(
        (0, 0, 1, top), design.scheme.accent if chance(plan, 0.6) else mix(design.scheme.ground, (0, 0, 0), 0.1)
    )
    ink = _ink(canvas, (0.0, 0.0, 1.0, top))
    logo(canvas, (0.01, 0.01, 0.07, top - 0.01), (design.scheme.accent2, design.scheme.ground), plan)
    size = 0.36 * top * canvas.height / canvas.unit
    canvas.text(
        (0.09, top * 0.65), in_script(name(rng), design.faces.script), design.faces.bold, size, ink, room=0.25
    )
    if canvas.width > canvas.height:
        for item in range(int(plan.integers(2, 6))):
            canvas.text((0.4 + 0.11 * item, top * 0.65), words(rng, 1), design.faces.body, size * 0.8, ink, room=0.1)
        if chance(plan, 0.4):
            left = plan.uniform(0.14, 0.22)
            canvas.fill((0, top, left, 1), mix(design.scheme.accent, (128, 128, 128), 0.6))
            ink = _ink(canvas, (0.0, top + 0.01, left, 1.0))
            for row in range(int(plan.integers(5, 11))):
                canvas.text((0.02, top + 0.07 * (row + 1)), words(rng, 1), design.faces.body, 0.035, ink, room=left)
    else:
        canvas.fill((0, 0.92, 1, 1), mix(design.scheme.ground, (60, 60, 60), 0.3))
        for item in range(4):
            at = (0.07 + 0.24 * item, 0.935, 0.17 + 0.24 * item, 0.985)
            symbol(canvas, at, design.scheme.accent2, plan)
    return (left + 0.03, top + 0.03, 0.97, 0.98 if canvas.width > canvas.height else 0.9)


def _picture(canvas: Canvas, rng: np.random.Generator, area: Box, faces: float = 0.1) -> None:
    x0, y0, x1, y1 = canvas.box(area)
    size = (x1 - x0, y1 - y0)
    canvas.paste(portrait(rng, *size) if chance(rng, faces) else draw_scene(rng, pick(rng, SCENES), size), area)


def _prose(canvas: Canvas, design: Design, rng: np.random.Generator, area: Box, size: float = 0.034) -> None:
    x0, y0, x1, y1 = area
    ink, step = _ink(canvas, area), size * 1.6 * canvas.unit / canvas.height
    count = max(1, int((x1 - x0) * canvas.width / (size * canvas.unit * 3.2)))
    for y in np.arange(y0 + step, y1, step).tolist():
        text = in_script(words(rng, int(rng.integers(max(1, count - 2), count + 2))), design.faces.script)
        canvas.text((x0, y), text, design.faces.body, size, ink, room=x1 - x0)


def _article(canvas: Canvas, design: Design, rng: np.random.Generator, area: Box) -> None:
    x0, y0, x1, y1 = area
    title = in_script(words(rng, 4).capitalize(), design.faces.script)
    canvas.text((x0, y0 + 0.06), title, design.faces.bold, 0.075, _ink(canvas, area), room=x1 - x0)
    middle = y0 + (y1 - y0) * rng.uniform(0.35, 0.6)
    _picture(canvas, rng, (x0, y0 + 0.09, x1 if chance(rng, 0.5) else (x0 + x1) / 2, middle), 0.25)
    _prose(canvas, design, rng, (x0, middle + 0.01, x1, y1))


def _shop(canvas: Canvas, design: Design, rng: np.random.Generator, area: Box) -> None:
    x0, y0, x1, y1 = area
    across, down = (int(rng.integers(3, 6)), 2) if canvas.width > canvas.height else (2, 3)
    wide, high = (x1 - x0) / across, (y1 - y0) / down
    ink = _ink(canvas, area)
    for item in range(across * down):
        left, top = x0 + wide * (item % across), y0 + high * (item // across)
        _picture(canvas, rng, (left, top, left + wide * 0.9, top + high * 0.62), 0.1)
        canvas.text((left, top + high * 0.75), words(rng, 2), design.faces.body, 0.035, ink, room=wide * 0.9)
        price = f"{rng.uniform(1, 900):.2f}"
        canvas.text((left, top + high * 0.9), price, design.faces.bold, 0.045, design.scheme.accent2)


def _table(canvas: Canvas, design: Design, rng: np.random.Generator, area: Box) -> None:
    x0, y0, x1, y1 = area
    rows, columns = int(rng.integers(6, 14)), int(rng.integers(3, 7))
    high, wide = (y1 - y0) / rows, (x1 - x0) / columns
    ink = _ink(canvas, area)
    for row in range(rows):
        y = y0 + high * row
        if row == 0:
            canvas.fill((x0, y, x1, y + high), design.scheme.accent)
        canvas.fill((x0, y + high - 0.002, x1, y + high), (140, 140, 146))
        for column in range(columns):
            text = words(rng, 1) if row == 0 or column == 0 else digits(rng, int(rng.integers(1, 5)))
            tint = ink_on(design.scheme.accent) if row == 0 else ink
            size = min(0.04, 0.55 * high * canvas.height / canvas.unit)
            canvas.text((x0 + wide * column, y + high * 0.7), text, design.faces.body, size, tint, room=wide * 0.9)


def _chart(canvas: Canvas, design: Design, rng: np.random.Generator, area: Box) -> None:
    x0, y0, x1, y1 = canvas.box(area)
    ink, count = _ink(canvas, area), int(rng.integers(4, 12))
    canvas.draw.line([x0, y0, x0, y1, x1, y1], fill=ink, width=2)
    steps = np.linspace(x0, x1, count + 1)
    if chance(rng, 0.5):
        for left, right in itertools.pairwise(steps):
            top = y1 - (y1 - y0) * rng.uniform(0.1, 0.95)
            canvas.draw.rectangle([left + 3, top, max(right - 3, left + 4), y1], fill=design.scheme.accent2)
    else:
        for colour in (design.scheme.accent, design.scheme.accent2):
            heights = y1 - (y1 - y0) * np.clip(0.5 + np.cumsum(rng.normal(0, 0.12, count + 1)), 0.05, 0.95)
            canvas.draw.line(
                np.stack([steps, heights], 1).ravel().tolist(), fill=colour, width=max(2, canvas.unit // 90)
            )
    canvas.text((area[0] + 0.03, area[1] + 0.03), words(rng, 3), design.faces.bold, 0.05, ink, room=0.5)


def _map(canvas: Canvas, design: Design, rng: np.random.Generator, area: Box) -> None:
    x0, y0, x1, y1 = canvas.box(area)
    canvas.draw.rectangle([x0, y0, x1, y1], fill=hsv(rng.uniform(0.1, 0.35), 0.1, 0.93))
    for _ in range(int(rng.integers(3, 8))):
        points = np.stack([rng.uniform(x0, x1, 6), rng.uniform(y0, y1, 6)], 1)
        fill = hsv(rng.choice([0.33, 0.58]), 0.3, 0.9)
        canvas.draw.polygon([tuple(p) for p in points.tolist()], fill=fill)
    for _ in range(int(rng.integers(6, 18))):
        ends = [rng.uniform(x0, x1), rng.uniform(y0, y1), rng.uniform(x0, x1), rng.uniform(y0, y1)]
        canvas.draw.line(ends, fill=(255, 255, 255), width=int(rng.integers(2, 9)))
    for _ in range(int(rng.integers(3, 9))):
        at = (rng.uniform(area[0], area[2] - 0.1), rng.uniform(area[1] + 0.05, area[3]))
        canvas.text(at, in_script(name(rng), design.faces.script), design.faces.body, 0.04, (60, 60, 66))


def _settings(canvas: Canvas, design: Design, rng: np.random.Generator, area: Box) -> None:
    x0, y0, x1, y1 = area
    ink, rows = _ink(canvas, area), int(rng.integers(6, 11))
    step = (y1 - y0) / rows
    for row in range(rows):
        y = y0 + step * row
        text = in_script(words(rng, int(rng.integers(1, 4))).capitalize(), design.faces.script)
        canvas.text((x0, y + step * 0.6), text, design.faces.body, 0.048, ink, room=(x1 - x0) * 0.7)
        on = chance(rng, 0.5)
        wide = 0.09 * canvas.unit / canvas.width
        box = (x1 - wide, y + step * 0.25, x1, y + step * 0.65)
        canvas.fill(box, design.scheme.accent2 if on else (150, 150, 156), 0.02)
        canvas.fill(
            (x1 - wide / 2, box[1], x1, box[3]) if on else (box[0], box[1], x1 - wide / 2, box[3]),
            (245, 245, 245),
            0.02,
        )
        canvas.fill((x0, y + step - 0.002, x1, y + step), mix(ink, (128, 128, 128), 0.7))


def _video(canvas: Canvas, design: Design, rng: np.random.Generator, area: Box) -> None:
    x0, y0, x1, y1 = area
    low = y0 + (y1 - y0) * rng.uniform(0.5, 0.75)
    _picture(canvas, rng, (x0, y0, x1, low), 0.3)
    canvas.fill((x0, low - 0.02, x0 + (x1 - x0) * rng.random(), low - 0.01), design.scheme.accent2)
    _prose(canvas, design, rng, (x0, low + 0.01, x1, y1), 0.042)


_DRAWN: dict[str, Callable[[Canvas, Design, np.random.Generator, Box], None]] = {
    "article": _article,
    "shop": _shop,
    "table": _table,
    "chart": _chart,
    "map": _map,
    "settings": _settings,
    "video": _video,
}
