"""Receipts and pages of text: books, newspapers, notes, listings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .canvas import Canvas
from .design import Design, blank
from .handwriting import PENS, Hand, handwrite
from .ornaments import barcode, logo, matrix_code
from .palette import mix
from .scenes import SCENES, draw_scene
from .scripts import in_script
from .streams import chance, pick
from .text import digits, name, words
from .values import Artwork, Box, Colour

INK: Colour = (28, 28, 32)
LEAST = 0.25
STYLES = ("columns", "columns", "book", "newspaper", "notes", "listing", "figures", "contents")
KEYWORDS = ("def", "return", "for", "if", "else:", "import", "class", "while", "let", "fn", "print", "try:")


def paper(rng: np.random.Generator) -> Colour:
    """Choose the colour of a sheet, from white to yellowed."""
    return mix((252, 252, 250), (236, 226, 200), rng.random() ** 2)


def receipt(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a till receipt, short or very long: goods, prices, a total, perhaps a code."""
    plan = design.plan()
    canvas = blank(design.sides(plan.uniform(0.2, 0.7)), paper(rng))
    face = design.faces.mono if chance(plan, 0.7) else design.faces.body
    per = canvas.width / canvas.height
    shop = in_script(name(rng), design.faces.script).upper()
    y = 0.03
    if chance(plan, 0.35):
        logo(canvas, (0.35, y, 0.65, y + 0.2 * per), ((40, 40, 44), (120, 120, 124)), plan)
        y += 0.22 * per
    y += 0.1 * per
    canvas.text((0.5, y), shop, design.faces.bold, plan.uniform(0.08, 0.14), INK, anchor="ms", room=0.8)
    for _ in range(int(plan.integers(1, 4))):
        y += 0.065 * per
        canvas.text((0.5, y), words(rng, 3), face, 0.05, INK, anchor="ms", room=0.8)
    if chance(plan, 0.5):
        canvas.text((0.5, y + 0.08 * per), "-" * 40, face, 0.05, INK, anchor="ms", room=0.88)
    y = _goods(canvas, design, rng, plan, y + 0.15 * per)
    if chance(plan, 0.5) and y + 0.3 * per < 1:
        barcode(canvas, (0.15, y + 0.04 * per, 0.85, y + 0.24 * per), rng)
    elif chance(plan, 0.5) and y + 0.45 * per < 1:
        matrix_code(canvas, (0.32, y + 0.04 * per, 0.68, y + 0.4 * per), rng)
    return design.done(canvas, least=0.14)


def _goods(canvas: Canvas, design: Design, rng: np.random.Generator, plan: np.random.Generator, y: float) -> float:
    """Write goods down to a total that leaves room below; return where that ends."""
    face = design.faces.mono if chance(plan, 0.7) else design.faces.body
    per, step, count = canvas.width / canvas.height, plan.uniform(0.065, 0.09), chance(plan, 0.4)
    end = plan.uniform(0.55, 0.8)
    while y < end:
        left = f"{int(rng.integers(1, 9))} x {words(rng, 1)}" if count else words(rng, 2)
        canvas.text((0.07, y), left, face, 0.055, INK, room=0.6)
        canvas.text((0.93, y), f"{rng.uniform(0.5, 80):.2f}", face, 0.055, INK, anchor="rs")
        y += step * per
    canvas.fill((0.07, y - 0.02 * per, 0.93, y - 0.01 * per), INK)
    y += 0.08 * per
    canvas.text((0.07, y), pick(rng, ("TOTAL", "SUM", "TO PAY")), design.faces.bold, 0.085, INK)
    canvas.text((0.93, y), f"{rng.uniform(20, 400):.2f}", design.faces.bold, 0.085, INK, anchor="rs")
    for label in ("VAT", "CASH", "CHANGE")[: int(plan.integers(0, 4))]:
        y += 0.075 * per
        canvas.text((0.07, y), label, face, 0.055, INK)
        canvas.text((0.93, y), f"{rng.uniform(1, 90):.2f}", face, 0.055, INK, anchor="rs")
    return y


def text_page(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a page of a book, a newspaper, a notebook, a listing or a table of contents."""
    plan = design.plan()
    style = pick(plan, STYLES)
    canvas = _PAGES[style](design, rng, plan)
    return design.done(canvas, least=LEAST, style=style)


def _block(canvas: Canvas, design: Design, rng: np.random.Generator, area: Box, size: float) -> None:
    """Fill an area with lines of print; paragraphs end short."""
    x0, y0, x1, y1 = area
    step = size * canvas.unit / canvas.height * 1.45
    line = f"{words(rng, 16)} {digits(rng, 2)} {words(rng, 14)}."
    line = in_script(line, design.faces.script)
    count = max(4, round((x1 - x0) * canvas.width / (size * canvas.unit * 0.5)))
    y = y0 + step
    while y < y1:
        start = int(rng.integers(0, max(1, len(line) - count)))
        shown = line[start : start + count]
        ends = chance(rng, 0.12)
        shown = shown[: max(2, int(count * rng.uniform(0.2, 0.8)))] if ends else shown
        canvas.text((x0, y), shown, design.faces.body, size, INK, room=x1 - x0)
        y += step * (1.6 if ends else 1)


def _columns(design: Design, rng: np.random.Generator, plan: np.random.Generator) -> Canvas:
    canvas = blank(design.sides((0.707, 0.75, 1.414)[int(plan.integers(3))]), paper(rng))
    columns, edge = int(plan.integers(1, 4)), plan.uniform(0.06, 0.13)
    title = in_script(words(rng, 3).title(), design.faces.script)
    canvas.text((edge, 0.1), title, design.faces.bold, plan.uniform(0.05, 0.09), INK, room=1 - 2 * edge)
    room, size = (1 - 2 * edge) / columns, plan.uniform(0.024, 0.042)
    picture = chance(plan, 0.4)
    for column in range(columns):
        left, top = edge + room * column, 0.15
        if picture and column == 0:
            area = (left, 0.16, left + room * 0.94, 0.42)
            _paste_scene(canvas, rng, area)
            top = 0.44
        _block(canvas, design, rng, (left, top, left + room * 0.94, 0.94), size)
    return canvas


def _paste_scene(canvas: Canvas, rng: np.random.Generator, area: Box) -> None:
    x0, y0, x1, y1 = canvas.box(area)
    canvas.paste(draw_scene(rng, pick(rng, SCENES), (x1 - x0, y1 - y0)), area)


def _book(design: Design, rng: np.random.Generator, plan: np.random.Generator) -> Canvas:
    """Draw an open book, or one of its pages."""
    double = chance(plan, 0.6)
    canvas = blank(design.sides(1.4 if double else 0.68), paper(rng))
    size, pages = plan.uniform(0.032, 0.046), 2 if double else 1
    for page in range(pages):
        left, right = page / pages + 0.09 / pages, (page + 1) / pages - 0.09 / pages
        chapter = chance(rng, 0.35)
        if chapter:
            title = in_script(words(rng, 2).title(), design.faces.script)
            canvas.text(
                ((left + right) / 2, 0.2), title, design.faces.bold, 0.06, INK, anchor="ms", room=right - left
            )
        _block(canvas, design, rng, (left, 0.27 if chapter else 0.08, right, 0.9), size)
        number = str(int(rng.integers(2, 400)))
        canvas.text(((left + right) / 2, 0.95), number, design.faces.body, size, INK, anchor="ms")
    if double:
        for step in range(14):
            reach = 0.003 * step
            canvas.fill((0.5 - reach, 0, 0.5 + reach, 1), (40, 34, 26, 12))
    return canvas


def _newspaper(design: Design, rng: np.random.Generator, plan: np.random.Generator) -> Canvas:
    canvas = blank(design.sides(plan.uniform(0.62, 0.85)), mix(paper(rng), (214, 208, 192), 0.5))
    title = in_script(f"{name(rng)} {name(rng)}", design.faces.script)
    canvas.text((0.5, 0.085), title, design.faces.bold, 0.12, INK, anchor="ms", room=0.9)
    canvas.fill((0.05, 0.1, 0.95, 0.103), INK)
    columns, size = int(plan.integers(3, 6)), plan.uniform(0.019, 0.026)
    head = in_script(words(rng, 4).capitalize(), design.faces.script)
    canvas.text((0.05, 0.17), head, design.faces.bold, 0.07, INK, room=0.9)
    room, pictures = 0.9 / columns, int(plan.integers(1, 3))
    for column in range(columns):
        left, y = 0.05 + room * column, 0.19
        if column < pictures:
            low = y + plan.uniform(0.12, 0.3)
            _paste_scene(canvas, rng, (left, y, left + room * 0.93, low))
            y = low + 0.01
        _block(canvas, design, rng, (left, y, left + room * 0.93, 0.96), size)
    return canvas


def _notes(design: Design, rng: np.random.Generator, plan: np.random.Generator) -> Canvas:
    """Draw a sheet of handwritten notes: ruled, squared or plain."""
    canvas = blank(design.sides((0.707, 0.75, 1.0, 1.3)[int(plan.integers(4))]), paper(rng))
    ruling, step = pick(plan, ("ruled", "squared", "plain")), plan.uniform(0.055, 0.085)
    pale, per = (160, 180, 215, 150), canvas.unit / canvas.height
    rows = np.arange(0.08, 0.98, step * per).tolist()
    if ruling != "plain":
        for y in rows:
            canvas.fill((0, y, 1, y + 0.002), pale)
    if ruling == "squared":
        for x in np.arange(0.0, 1.0, step * canvas.unit / canvas.width).tolist():
            canvas.fill((x, 0, x + 0.002, 1), pale)
    ink, margin = PENS[int(rng.integers(len(PENS)))], plan.uniform(0.05, 0.14)
    letters = int((0.9 - margin) * canvas.width / (step * canvas.unit * 0.4))
    for y in rows[1 : int(rng.integers(5, len(rows)))]:
        if chance(rng, 0.88):
            text = in_script(words(rng, 7), design.faces.script)[: max(3, int(letters * rng.uniform(0.4, 1)))]
            handwrite(canvas, (margin, y), text, Hand(design.faces.hand, ink), step * 0.78, rng)
    return canvas


def _listing(design: Design, rng: np.random.Generator, plan: np.random.Generator) -> Canvas:
    """Draw lines of a program, on paper or in a dark editor."""
    dark = chance(plan, 0.5)
    ground: Colour = (30, 32, 40) if dark else (250, 250, 250)
    inks: tuple[Colour, ...] = ((220, 220, 220), (120, 190, 250), (230, 170, 90), (140, 210, 140))
    if not dark:
        inks = (INK, (20, 60, 160), (150, 60, 20), (40, 120, 50))
    canvas = blank(design.sides(plan.uniform(0.75, 1.7)), ground)
    size, level = plan.uniform(0.03, 0.05), 0
    step = size * 1.4 * canvas.unit / canvas.height
    y, number = step, 1
    while y < 0.98:
        canvas.text((0.02, y), str(number), design.faces.mono, size, mix(ground, inks[0], 0.4))
        x = 0.09 + 0.04 * level
        for token in (pick(rng, KEYWORDS), *words(rng, int(rng.integers(0, 5))).split(), "()"):
            if x > 0.9 or chance(rng, 0.06):
                break
            ink = inks[int(rng.integers(len(inks)))]
            x += canvas.text((x, y), token, design.faces.mono, size, ink) + size * 0.5 * canvas.unit / canvas.width
        level = min(max(level + int(rng.integers(-1, 2)), 0), 4)
        y, number = y + step, number + 1
    return canvas


def _figures(design: Design, rng: np.random.Generator, plan: np.random.Generator) -> Canvas:
    """Draw a page of figures in ruled columns."""
    canvas = blank(design.sides((0.707, 1.414, 1.2)[int(plan.integers(3))]), paper(rng))
    canvas.text((0.07, 0.09), words(rng, 3).title(), design.faces.bold, 0.06, INK, room=0.86)
    rows, columns = int(plan.integers(8, 20)), int(plan.integers(3, 8))
    high, wide = 0.84 / rows, 0.88 / columns
    size = min(0.6 * high * canvas.height, 0.22 * wide * canvas.width) / canvas.unit
    for row in range(rows):
        y = 0.13 + high * row
        if chance(plan, 0.3):
            canvas.fill((0.06, y, 0.94, y + high), mix(design.scheme.accent, (255, 255, 255), 0.8))
        canvas.frame((0.06, y, 0.94, y + high), (150, 150, 155), 0.002)
        for column in range(columns):
            text = words(rng, 1) if column == 0 or row == 0 else f"{rng.uniform(0, 999):.1f}"
            canvas.text((0.07 + wide * column, y + high * 0.72), text, design.faces.body, size, INK, room=wide * 0.9)
    return canvas


def _contents(design: Design, rng: np.random.Generator, plan: np.random.Generator) -> Canvas:
    """Draw headings with dotted lines to page numbers, or a list with bullets."""
    canvas = blank(design.sides(plan.uniform(0.65, 0.8)), paper(rng))
    canvas.text((0.1, 0.12), in_script(words(rng, 2).title(), design.faces.script), design.faces.bold, 0.09, INK)
    dotted, step = chance(plan, 0.6), plan.uniform(0.045, 0.07)
    for row, y in enumerate(np.arange(0.2, 0.94, step).tolist()):
        text = in_script(words(rng, int(rng.integers(1, 4))).capitalize(), design.faces.script)
        lead = f"{row + 1}  " if dotted else "•  "
        end = 0.1 + canvas.text((0.1, y), lead + text, design.faces.body, 0.045, INK, room=0.7)
        if dotted:
            dots = "." * max(0, int((0.84 - end) * canvas.width / (0.03 * canvas.unit)))
            canvas.text((end + 0.01, y), dots, design.faces.body, 0.045, INK, room=0.84 - end)
            canvas.text((0.92, y), str(row * 7 + 3), design.faces.body, 0.045, INK, anchor="rs")
    return canvas


_PAGES: dict[str, Callable[[Design, np.random.Generator, np.random.Generator], Canvas]] = {
    "columns": _columns,
    "book": _book,
    "newspaper": _newspaper,
    "notes": _notes,
    "listing": _listing,
    "figures": _figures,
    "contents": _contents,
}
