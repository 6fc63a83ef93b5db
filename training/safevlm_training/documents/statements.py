"""Payslips, and price lists and orders on the same paper."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas, Ink
from .design import Design, blank
from .ornaments import logo
from .palette import ink_on, mix
from .people import Person, person
from .scripts import in_script
from .streams import chance, pick
from .text import digits, name, words
from .values import Artwork, Box, Colour

INK: Colour = (28, 28, 32)
LEAST = 0.45
"""Its lines are small: it is never shown on less of a picture than this."""

SLIP_TITLES = ("PAYSLIP", "PAY STATEMENT", "SALARY SLIP", "WAGE STATEMENT", "EARNINGS STATEMENT")
LIST_TITLES = ("PRICE LIST", "ORDER", "INVOICE", "QUOTE", "CATALOGUE", "TARIFF", "STOCK LIST", "MENU")
EARNINGS = ("Basic pay", "Overtime", "Bonus", "Allowance", "Night shift", "Holiday pay")
DEDUCTIONS = ("Income tax", "Health", "Pension", "Insurance", "Union", "Advance")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Where a template puts things; fractions of the sides, text sizes of the shorter side."""

    ratio: float
    edge: float
    header: str
    head: float
    block: Box
    aside: Box
    tables: tuple[Box, ...]
    rows: int
    ruled: str
    total: Box
    size: float


def _layout(plan: np.random.Generator) -> _Layout:
    ratio = (1.414, 1.6, 1.9, 2.2, 1.2, 0.9)[int(plan.integers(6))]
    edge, head = plan.uniform(0.03, 0.06), plan.uniform(0.14, 0.2)
    deep = plan.uniform(0.24, 0.32)
    top = head + 0.03
    middle = plan.uniform(0.5, 0.62)
    block, aside = (edge, top, middle, top + deep), (middle + 0.03, top, 1 - edge, top + deep)
    if chance(plan, 0.3):
        block, aside = (
            (1 - edge - (middle - edge), top, 1 - edge, top + deep),
            (edge, top, 1 - middle - 0.03, top + deep),
        )
    low = top + deep + 0.03
    tables: tuple[Box, ...] = ((edge, low, 1 - edge, 0.86),)
    if chance(plan, 0.65):
        tables = ((edge, low, 0.49, 0.86), (0.51, low, 1 - edge, 0.86))
    wide = plan.uniform(0.4, 0.6)
    x = 1 - edge - wide if chance(plan, 0.7) else edge
    return _Layout(
        ratio=ratio,
        edge=edge,
        header=pick(plan, ("bar", "plain", "line", "right")),
        head=head,
        block=block,
        aside=aside,
        tables=tables,
        rows=int(plan.integers(4, 7)),
        ruled=pick(plan, ("lines", "stripes", "frame", "none")),
        total=(x, 0.88, x + wide, 0.97),
        size=plan.uniform(0.052, 0.064),
    )


def payslip(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a payslip: an employer, an employee with numbers and account, what is earned and what is kept back."""
    script = design.faces.script
    who = person(rng, script)
    block = _person_lines(rng, who, script)
    aside = [
        ("Period", f"{int(rng.integers(1, 13)):02d}/{int(rng.integers(2019, 2028))}"),
        ("Hours", f"{rng.uniform(60, 200):.1f}"),
        ("Grade", digits(rng, 1)),
    ]
    columns = [[in_script(row, script) for row in rows] for rows in (EARNINGS, DEDUCTIONS)]
    return _draw(design, rng, pick(rng, SLIP_TITLES), (block, aside), columns, "NET PAY")


def price_list(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a list of goods and prices on a payslip's paper; it names a firm and nobody else."""
    script = design.faces.script
    labels = ("Delivery", "Season", "Warehouse", "Minimum", "Valid", "Returns", "Open", "Terms")
    block = [
        (in_script(labels[i], script), in_script(words(rng, int(rng.integers(1, 4))), script))
        for i in rng.permutation(len(labels))[: int(rng.integers(0, 5))].tolist()
    ]
    aside = [("List", digits(rng, 3)), ("Page", f"{digits(rng, 1)}/9"), ("Tax", f"{rng.uniform(5, 25):.0f} %")]
    columns = [[in_script(words(rng, 2), script) for _ in range(6)] for _ in range(2)]
    return _draw(design, rng, pick(rng, LIST_TITLES), (block, aside[: int(rng.integers(1, 4))]), columns, "TOTAL")


def _person_lines(rng: np.random.Generator, who: Person, script: str) -> list[tuple[str, str]]:
    rows = [
        ("Born", who.born),
        ("Staff no.", digits(rng, int(rng.integers(5, 9)))),
        ("Tax no.", f"{digits(rng, 2)} {digits(rng, 3)} {digits(rng, 5)}"),
        ("Account", f"{who.code[:2]}{digits(rng, 2)} {digits(rng, 4)} {digits(rng, 4)} {digits(rng, 4)}"),
        ("Address", f"{who.place} {int(rng.integers(1, 99))}"),
    ]
    kept = [rows[i] for i in sorted(rng.permutation(len(rows))[: int(rng.integers(3, 5))].tolist())]
    return [("Name", f"{who.given} {who.surname}"), *((in_script(label, script), value) for label, value in kept)]


def _draw(
    design: Design,
    rng: np.random.Generator,
    title: str,
    blocks: tuple[list[tuple[str, str]], list[tuple[str, str]]],
    columns: list[list[str]],
    total: str,
) -> Artwork:
    plan = design.plan()
    at = _layout(plan)
    canvas = blank(design.sides(at.ratio), mix((252, 252, 250), (236, 228, 208), rng.random() ** 2))
    _header(canvas, design, rng, plan, at, title)
    for area, rows in zip((at.block, at.aside), blocks, strict=True):
        _block(canvas, design, area, rows, at)
    for area, goods in zip(at.tables, columns, strict=False):
        _table(canvas, design, rng, area, goods[: at.rows], at)
    canvas.frame(at.total, INK, 0.005)
    x0, _, x1, y1 = at.total
    canvas.text((x0 + 0.015, y1 - 0.022), total, design.faces.bold, at.size * 1.1, INK)
    amount = f"{rng.uniform(300, 9000):,.2f}"
    canvas.text((x1 - 0.015, y1 - 0.022), amount, design.faces.bold, at.size * 1.1, INK, anchor="rs")
    return design.done(canvas, least=LEAST, header=at.header, ruled=at.ruled, tables=str(len(at.tables)))


def _header(
    canvas: Canvas, design: Design, rng: np.random.Generator, plan: np.random.Generator, at: _Layout, title: str
) -> None:
    ink: Ink = INK
    colours = (design.scheme.accent, design.scheme.accent2)
    if at.header == "bar":
        canvas.fill((0, 0, 1, at.head), design.scheme.accent)
        ink, colours = ink_on(design.scheme.accent), (design.scheme.accent2, design.scheme.ground)
    elif at.header == "line":
        canvas.fill((at.edge, at.head - 0.008, 1 - at.edge, at.head), design.scheme.accent)
    firm = in_script(f"{name(rng)} {name(rng)}", design.faces.script)
    right = at.header == "right"
    left = 1 - at.edge - 0.09 if right else at.edge
    logo(canvas, (left, 0.02, left + 0.09, at.head - 0.02), colours, plan)
    x, anchor = (left - 0.02, "rs") if right else (left + 0.11, "ls")
    canvas.text((x, at.head * 0.55), firm, design.faces.bold, 0.08, ink, anchor=anchor, room=0.42)
    canvas.text((x, at.head * 0.85), words(rng, 3), design.faces.body, 0.04, ink, anchor=anchor, room=0.42)
    x, anchor = (at.edge, "ls") if right else (1 - at.edge, "rs")
    canvas.text((x, at.head * 0.65), title, design.faces.bold, 0.07, ink, anchor=anchor, room=0.38)


def _block(canvas: Canvas, design: Design, area: Box, rows: list[tuple[str, str]], at: _Layout) -> None:
    """Write labels and values below each other, in a frame where the template has one."""
    x0, y0, x1, y1 = area
    if at.ruled in ("frame", "lines"):
        canvas.frame(area, mix(design.scheme.accent, INK, 0.5), 0.003)
    step = (y1 - y0) / max(len(rows), 4)
    for row, (label, value) in enumerate(rows):
        y = y0 + step * (row + 0.78)
        size = min(at.size, 0.8 * step * canvas.height / canvas.unit)
        canvas.text((x0 + 0.015, y), label, design.faces.body, size * 0.8, INK, room=0.3 * (x1 - x0))
        face = design.faces.bold if row == 0 else design.faces.body
        canvas.text((x0 + 0.34 * (x1 - x0), y), value, face, size, INK, room=0.64 * (x1 - x0))


def _table(canvas: Canvas, design: Design, rng: np.random.Generator, area: Box, rows: list[str], at: _Layout) -> None:
    """Write goods or kinds of pay with their amounts under a coloured head."""
    x0, y0, x1, y1 = area
    step = (y1 - y0) / (len(rows) + 1)
    canvas.fill((x0, y0, x1, y0 + step * 0.9), mix(design.scheme.accent, (255, 255, 255), 0.3))
    size = min(at.size, 0.75 * step * canvas.height / canvas.unit)
    ink = ink_on(mix(design.scheme.accent, (255, 255, 255), 0.3))
    canvas.text(
        (x0 + 0.01, y0 + step * 0.68), in_script(name(rng), design.faces.script), design.faces.bold, size, ink
    )
    if at.ruled == "frame":
        canvas.frame(area, INK, 0.003)
    for row, text in enumerate(rows, start=1):
        y = y0 + step * row
        if at.ruled == "stripes" and row % 2:
            canvas.fill((x0, y, x1, y + step), mix(design.scheme.accent, (255, 255, 255), 0.85))
        elif at.ruled == "lines":
            canvas.fill((x0, y + step - 0.002, x1, y + step), mix(INK, (255, 255, 255), 0.5))
        canvas.text((x0 + 0.01, y + step * 0.72), text, design.faces.body, size, INK, room=0.58 * (x1 - x0))
        amount = f"{rng.uniform(2, 4000):.2f}"
        spot = (x1 - 0.01, y + step * 0.72)
        canvas.text(spot, amount, design.faces.mono, size, INK, anchor="rs", room=0.34 * (x1 - x0))
