"""Presentation slides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .canvas import Canvas
from .design import Design
from .palette import ink_on, mix
from .portraits import portrait
from .scenes import SCENES, draw_scene
from .scripts import in_script
from .streams import chance, pick
from .text import words
from .values import Artwork, Box, Colour

STYLES = ("beside", "beside", "beside", "columns", "table", "cover", "quote", "chart", "steps")


def slide(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a presentation slide: a title with bullets, pictures, charts, a table, steps or a quotation."""
    plan = design.plan()
    canvas, pattern = design.card(rng, plan, (16 / 9, 16 / 9, 4 / 3)[int(plan.integers(3))])
    ground = design.scheme.ground
    if chance(plan, 0.4):
        ground = mix(ground, (255, 255, 255), 0.9)
        canvas.fill((0, 0, 1, 1), ground)
    style = pick(plan, STYLES)
    ink = ink_on(ground)
    if style not in ("cover", "quote"):
        _title(canvas, design, rng, plan, ink)
    _DRAWN[style](canvas, design, rng, plan, ink)
    if chance(plan, 0.6):
        canvas.text((0.95, 0.96), str(int(rng.integers(1, 60))), design.faces.body, 0.04, ink, anchor="rs")
    return design.done(canvas, pattern=pattern, style=style)


def _title(canvas: Canvas, design: Design, rng: np.random.Generator, plan: np.random.Generator, ink: Colour) -> None:
    bar, size = pick(plan, ("bar", "line", "none", "side")), plan.uniform(0.08, 0.12)
    if bar == "bar":
        canvas.fill((0, 0, 1, 0.2), design.scheme.accent)
        ink = ink_on(design.scheme.accent)
    elif bar == "line":
        canvas.fill((0.06, 0.185, 0.94, 0.195), design.scheme.accent2)
    elif bar == "side":
        canvas.fill((0, 0, 0.03, 1), design.scheme.accent)
    text = in_script(words(rng, 3).capitalize(), design.faces.script)
    canvas.text((0.06, 0.15), text, design.faces.bold, size, ink, room=0.86)


def _bullets(canvas: Canvas, design: Design, rng: np.random.Generator, area: Box, ink: Colour) -> None:
    x0, y0, x1, y1 = area
    size, step = rng.uniform(0.045, 0.07), (y1 - y0) / 7
    for row in range(int(rng.integers(3, 8))):
        text = in_script(words(rng, int(rng.integers(2, 7))), design.faces.script)
        spot = (x0 + (0.03 if chance(rng, 0.2) else 0), y0 + step * (row + 0.7))
        canvas.text(spot, f"- {text}", design.faces.body, size, ink, room=x1 - x0)


def _picture(canvas: Canvas, rng: np.random.Generator, area: Box) -> None:
    x0, y0, x1, y1 = canvas.box(area)
    size = (x1 - x0, y1 - y0)
    canvas.paste(portrait(rng, *size) if chance(rng, 0.4) else draw_scene(rng, pick(rng, SCENES), size), area)


def _bars(canvas: Canvas, design: Design, rng: np.random.Generator, area: Box) -> None:
    x0, y0, x1, y1 = canvas.box(area)
    count = int(rng.integers(3, 10))
    for step in range(count):
        top, x = y1 - (y1 - y0) * rng.uniform(0.1, 1), x0 + (x1 - x0) * step / count
        colour = design.scheme.accent2 if step % 2 else design.scheme.accent
        canvas.draw.rectangle([x, top, x + (x1 - x0) * 0.75 / count, y1], fill=colour)


def _rounds(canvas: Canvas, design: Design, rng: np.random.Generator, area: Box) -> None:
    x0, y0, x1, y1 = canvas.box(area)
    reach, x, y = min(x1 - x0, y1 - y0) / 2, (x0 + x1) / 2, (y0 + y1) / 2
    cuts = np.sort(rng.uniform(0, 360, int(rng.integers(2, 6)))).tolist()
    colours = (design.scheme.accent, design.scheme.accent2, design.scheme.faint, design.scheme.ink)
    box = [x - reach, y - reach, x + reach, y + reach]
    for slot, (start, end) in enumerate(zip(cuts, [*cuts[1:], cuts[0] + 360], strict=True)):
        canvas.draw.pieslice(box, start, end, fill=colours[slot % 4])


def _beside(canvas: Canvas, design: Design, rng: np.random.Generator, plan: np.random.Generator, ink: Colour) -> None:
    """Put bullets beside a chart or a picture."""
    cut = plan.uniform(0.4, 0.62)
    text, area = (0.07, 0.26, cut, 0.9), (cut + 0.04, plan.uniform(0.26, 0.34), 0.95, plan.uniform(0.7, 0.9))
    if chance(plan, 0.4):
        text, area = (1 - cut, 0.26, 0.95, 0.9), (0.06, area[1], 0.96 - cut, area[3])
    _bullets(canvas, design, rng, text, ink)
    kind = pick(plan, ("bars", "picture", "picture", "rounds"))
    if kind == "picture":
        _picture(canvas, rng, area)
    else:
        (_bars if kind == "bars" else _rounds)(canvas, design, rng, area)


def _columns(
    canvas: Canvas, design: Design, rng: np.random.Generator, plan: np.random.Generator, ink: Colour
) -> None:
    count, pictures = int(plan.integers(2, 5)), chance(plan, 0.5)
    wide = 0.88 / count
    for column in range(count):
        left = 0.06 + wide * column
        if pictures:
            _picture(canvas, rng, (left, 0.27, left + wide * 0.85, 0.58))
        _bullets(canvas, design, rng, (left, 0.62 if pictures else 0.26, left + wide * 0.88, 0.95), ink)


def _table(canvas: Canvas, design: Design, rng: np.random.Generator, plan: np.random.Generator, ink: Colour) -> None:
    rows, columns = int(plan.integers(3, 8)), int(plan.integers(2, 6))
    high, wide = 0.66 / rows, 0.88 / columns
    for row in range(rows):
        y = 0.26 + high * row
        if row == 0:
            canvas.fill((0.06, y, 0.94, y + high), design.scheme.accent)
        canvas.frame((0.06, y, 0.94, y + high), design.scheme.faint)
        for column in range(columns):
            text = in_script(words(rng, 1), design.faces.script) if row * column == 0 else f"{rng.uniform(0, 99):.1f}"
            tint = ink_on(design.scheme.accent) if row == 0 else ink
            at = (0.07 + wide * column, y + high * 0.68)
            canvas.text(at, text, design.faces.body, 0.055, tint, room=wide * 0.85)


def _cover(canvas: Canvas, design: Design, rng: np.random.Generator, plan: np.random.Generator, ink: Colour) -> None:
    if chance(plan, 0.6):
        area = (
            (0.0, 0.0, 1.0, plan.uniform(0.5, 1.0)) if chance(plan, 0.6) else (plan.uniform(0.4, 0.6), 0.0, 1.0, 1.0)
        )
        _picture(canvas, rng, area)
    low = plan.uniform(0.4, 0.85)
    canvas.fill((0, low - 0.17, 1, low + 0.1), (*design.scheme.accent, 220))
    text = in_script(words(rng, 3).title(), design.faces.script)
    first = ink_on(design.scheme.accent)
    canvas.text((0.07, low - 0.02), text, design.faces.bold, 0.13, first, room=0.86)
    canvas.text((0.07, low + 0.06), words(rng, 4), design.faces.body, 0.055, first, room=0.86)


def _quote(canvas: Canvas, design: Design, rng: np.random.Generator, plan: np.random.Generator, ink: Colour) -> None:
    left = 0.38 if chance(plan, 0.4) else 0.1
    if left > 0.2:
        _picture(canvas, rng, (0.07, 0.25, 0.32, 0.75))
    for row in range(int(plan.integers(2, 5))):
        text = in_script(words(rng, 5), design.faces.script)
        canvas.text((left, 0.3 + 0.13 * row), text, design.faces.body, 0.09, ink, room=0.92 - left)
    canvas.fill((left - 0.03, 0.2, left - 0.02, 0.8), design.scheme.accent2)


def _chart(canvas: Canvas, design: Design, rng: np.random.Generator, plan: np.random.Generator, ink: Colour) -> None:
    draw = _bars if chance(plan, 0.6) else _rounds
    draw(canvas, design, rng, (0.1, 0.28, plan.uniform(0.6, 0.9), 0.88))
    canvas.text((0.1, 0.95), words(rng, 5), design.faces.body, 0.045, ink, room=0.7)


def _steps(canvas: Canvas, design: Design, rng: np.random.Generator, plan: np.random.Generator, ink: Colour) -> None:
    count, top = int(plan.integers(3, 6)), plan.uniform(0.35, 0.5)
    wide = 0.88 / count
    for step in range(count):
        left = 0.06 + wide * step
        colour = design.scheme.accent if step % 2 else design.scheme.accent2
        canvas.fill((left, top, left + wide * 0.85, top + 0.25), colour, 0.03)
        number = (left + wide * 0.42, top + 0.16)
        canvas.text(number, str(step + 1), design.faces.bold, 0.12, ink_on(colour), anchor="ms")
        text = in_script(words(rng, 2), design.faces.script)
        canvas.text((left, top + 0.35), text, design.faces.body, 0.05, ink, room=wide * 0.85)


_DRAWN: dict[str, Callable[[Canvas, Design, np.random.Generator, np.random.Generator, Colour], None]] = {
    "beside": _beside,
    "columns": _columns,
    "table": _table,
    "cover": _cover,
    "quote": _quote,
    "chart": _chart,
    "steps": _steps,
}
