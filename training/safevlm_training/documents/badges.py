"""Badges of employees and students, and the same badges for visitors, rooms and events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas
from .design import CARD, Design
from .identity_form import silhouette
from .ornaments import barcode, logo, matrix_code, symbol
from .palette import hsv, ink_on, mix
from .people import person
from .portraits import portrait
from .scenes import draw_scene
from .scripts import in_script
from .straps import hang
from .streams import chance, pick
from .text import digits, name, words
from .values import Artwork, Box, Colour

RADIUS = 0.05
ROLES = (
    "Engineer", "Nurse", "Student", "Operations", "Security", "Accountant", "Faculty of Arts", "Laboratory",
    "Technician", "Logistics", "Teacher", "Apprentice", "Designer", "Warehouse",
)  # fmt: skip
FIRMS = ("Works", "College", "Hospital", "Systems", "University", "Airport", "Foods", "Group", "School", "Labs")
NOBODY = (
    "VISITOR", "GUEST", "DAY PASS", "CREW", "PRESS", "EXHIBITOR", "PARKING", "CONTRACTOR", "BACKSTAGE", "ROOM 214",
    "SPEAKER", "HALL B", "LOCKER 31", "DELIVERY", "STAFF", "ALL AREAS",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Where a template puts things; fractions of the sides of the badge."""

    ratio: float
    band: Box
    picture: Box
    column: tuple[float, float]
    anchor: str
    top: float
    step: float
    size: float
    foot: str
    hung: str


def _layout(plan: np.random.Generator) -> _Layout:
    upright = chance(plan, 0.6)
    ratio = plan.uniform(0.58, 0.78) if upright else plan.uniform(1.3, CARD)
    where = pick(plan, ("top", "top", "top", "bottom", "side"))
    deep = plan.uniform(0.12, 0.22)
    band = {"top": (0.0, 0.0, 1.0, deep), "bottom": (0.0, 1 - deep, 1.0, 1.0), "side": (0.0, 0.0, deep, 1.0)}[where]
    left, above = deep if where == "side" else 0.0, deep if where == "top" else 0.07
    below = 1 - deep if where == "bottom" else 1.0
    shape = _upright(plan, ratio, left, above) if upright else _lying(plan, ratio, left, above, below)
    picture, column, anchor, top = shape
    rows = 4.6 if upright else 5.0
    return _Layout(
        ratio=ratio,
        band=band,
        picture=picture,
        column=column,
        anchor=anchor,
        top=top,
        step=min((below - 0.03 - top) / rows, 0.11 if upright else 0.16),
        size=plan.uniform(0.09, 0.13),
        foot=pick(plan, ("bars", "matrix", "", "stripe")),
        hung=pick(plan, ("", "", "slot", "clip", "strap")),
    )


def _upright(
    plan: np.random.Generator, ratio: float, left: float, above: float
) -> tuple[Box, tuple[float, float], str, float]:
    wide = plan.uniform(0.36, 0.6)
    high = wide * plan.uniform(1.0, 1.35) * ratio
    place = pick(plan, ("centre", "centre", "left", "right"))
    x = {"centre": (1 + left - wide) / 2, "left": left + 0.07, "right": 0.93 - wide}[place]
    y = above + plan.uniform(0.03, 0.07)
    centred = place == "centre"
    return (x, y, x + wide, y + high), (left + 0.07, 0.93), "ms" if centred else "ls", y + high + 0.04


def _lying(
    plan: np.random.Generator, ratio: float, left: float, above: float, below: float
) -> tuple[Box, tuple[float, float], str, float]:
    high = (below - above) * plan.uniform(0.6, 0.85)
    wide = high / ratio * plan.uniform(0.72, 0.95)
    y = above + (below - above - high) / 2
    x = left + 0.05 if chance(plan, 0.65) else 0.95 - wide
    column = (x + wide + 0.05, 0.96) if x < 0.5 else (left + 0.05, x - 0.04)
    return (x, y, x + wide, y + high), column, "ls", y + 0.03


def badge(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw the badge of an employee or a student: portrait, name, firm and number."""
    who = person(rng, design.faces.script)
    plain = chance(rng, 0.7)
    lines = (
        who.given if plain else f"{who.given} {who.surname}",
        who.surname.upper() if plain else pick(rng, ROLES),
        pick(rng, ROLES) if plain else f"born {who.born}",
        f"{pick(rng, ('ID', 'No.', '#', 'Staff', 'Matr.'))} {digits(rng, int(rng.integers(5, 9)))}",
    )
    return _draw(design, rng, lines, face=True)


def blank_badge(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a visitor's badge, a room's or an event's pass: no face, no name, no number of a person."""
    script = design.faces.script
    lines = (
        pick(rng, NOBODY),
        in_script(words(rng, 2).title(), script) if chance(rng, 0.6) else "",
        in_script(words(rng, 2), script) if chance(rng, 0.7) else "",
        pick(rng, ("Day 1", "Level 3", "Please return", "Escort required", "Hall C", "")),
    )
    return _draw(design, rng, lines, face=False)


def _draw(design: Design, rng: np.random.Generator, lines: tuple[str, ...], *, face: bool) -> Artwork:
    plan = design.plan()
    at = _layout(plan)
    canvas, pattern = design.card(rng, plan, at.ratio)
    ground = design.scheme.ground
    if chance(plan, 0.5):
        ground = mix(ground, (255, 255, 255), 0.75)
        canvas.fill((0, 0, 1, 1), ground)
    framed = chance(plan, 0.5)
    canvas.fill(at.band, design.scheme.accent)
    firm = in_script(f"{name(rng)} {pick(rng, FIRMS)}", design.faces.script)
    _band(canvas, design, plan, at.band, firm)
    x0, y0, x1, y1 = canvas.box(at.picture)
    if face:
        canvas.paste(portrait(rng, x1 - x0, y1 - y0), at.picture)
    else:
        _instead(canvas, design, rng, at.picture)
    if framed:
        canvas.frame(at.picture, design.scheme.accent, 0.008)
    _write(canvas, design, at, lines, ink_on(ground))
    _foot(canvas, design, rng, at)
    shape, mask = "upright" if at.ratio < 1 else "lying", None
    if at.hung:
        picture, mask = hang(canvas.image, at.hung, hsv(rng.random(), rng.uniform(0, 0.8), rng.uniform(0.1, 0.9)))
        canvas = Canvas(picture)
    return design.done(canvas, radius=RADIUS, mask=mask, pattern=pattern, hung=at.hung, shape=shape)


def _band(canvas: Canvas, design: Design, plan: np.random.Generator, band: Box, firm: str) -> None:
    ink, colours = ink_on(design.scheme.accent), (design.scheme.accent2, design.scheme.ground)
    if band[2] < 0.5:
        logo(canvas, (0.015, 0.04, band[2] - 0.015, 0.2), colours, plan)
        return
    low, high = band[1], band[3]
    logo(canvas, (0.05, low + 0.02, 0.2, high - 0.02), colours, plan)
    size = 0.5 * (high - low) * canvas.height / canvas.unit
    canvas.text((0.24, (low + high) / 2), firm, design.faces.bold, size, ink, anchor="lm", room=0.7)


def _instead(canvas: Canvas, design: Design, rng: np.random.Generator, area: Box) -> None:
    """Fill the place of the portrait with something that is no face; sometimes leave it empty."""
    x0, y0, x1, y1 = canvas.box(area)
    kind = pick(rng, ("code", "code", "logo", "symbol", "scene", "letter", "outline", "nothing"))
    scheme = design.scheme
    if kind == "scene":
        canvas.paste(draw_scene(rng, pick(rng, ("hills", "street", "bokeh", "gradient")), (x1 - x0, y1 - y0)), area)
    elif kind == "logo":
        logo(canvas, area, (scheme.accent, scheme.accent2), rng)
    elif kind == "code":
        edge = min(x1 - x0, y1 - y0)
        left, top = (x0 + x1 - edge) / 2, (y0 + y1 - edge) / 2
        square = (
            left / canvas.width,
            top / canvas.height,
            (left + edge) / canvas.width,
            (top + edge) / canvas.height,
        )
        matrix_code(canvas, square, rng)
    elif kind != "nothing":
        canvas.fill(area, mix(scheme.ground, (255, 255, 255), 0.6))
        if kind == "symbol":
            symbol(canvas, area, scheme.accent, rng)
        elif kind == "outline":
            silhouette(canvas, area, design)
        else:
            high = 0.8 * (y1 - y0) / canvas.unit
            at = ((area[0] + area[2]) / 2, (area[1] + area[3]) / 2)
            canvas.text(at, pick(rng, (*"VGABC123P",)), design.faces.bold, high, scheme.accent, anchor="mm")


def _write(canvas: Canvas, design: Design, at: _Layout, lines: tuple[str, ...], ink: Colour) -> None:
    """Write the four lines of a badge, the first two large."""
    left, right = at.column
    x = (left + right) / 2 if at.anchor == "ms" else left
    for row, line in enumerate(lines):
        large = row < 2
        face = design.faces.bold if large else design.faces.body
        size = min(at.size * (1.0 if large else 0.62), 0.95 * at.step * canvas.height / canvas.unit)
        spot = (x, at.top + at.step * (row + 0.75))
        canvas.text(spot, line, face, size, ink, anchor=at.anchor, room=right - left)


def _foot(canvas: Canvas, design: Design, rng: np.random.Generator, at: _Layout) -> None:
    y = at.top + 4.15 * at.step
    low = min(y + 0.09, (at.band[1] if at.band[1] > 0.5 else 1.0) - 0.02)
    left, right = at.column
    if low - y < 0.03:
        return
    if at.foot == "bars":
        barcode(canvas, (left, y, right, low), rng)
    elif at.foot == "matrix":
        matrix_code(canvas, (right - 0.16, low - 0.16 * canvas.width / canvas.height, right, low), rng)
    elif at.foot == "stripe":
        canvas.fill((0.0, y, 1.0, low), design.scheme.accent2)
