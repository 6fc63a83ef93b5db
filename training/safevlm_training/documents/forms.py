"""Forms that somebody filled in, and the same forms before anybody did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas, Ink
from .design import Design, blank
from .form_sheets import Cell, Sheet, sheet
from .handwriting import PENS, Hand, handwrite
from .identity_form import silhouette
from .ornaments import emblem, flag, logo, signature
from .palette import ink_on, mix
from .people import Person, date, person
from .portraits import portrait
from .scripts import in_script
from .streams import chance, pick
from .text import digits, name, words
from .values import Artwork, Colour

INK: Colour = (28, 28, 32)
TITLES = (
    "APPLICATION FORM", "REGISTRATION", "REQUEST", "QUESTIONNAIRE", "ENROLMENT", "DECLARATION", "CHANGE OF ADDRESS",
    "PATIENT RECORD", "MEMBERSHIP APPLICATION", "INSURANCE CLAIM", "VISA APPLICATION", "TAX RETURN",
)  # fmt: skip
CHOICES = (("Yes", "No"), ("F", "M", "X"), ("Single", "Married"), ("Post", "E-mail"), ("New", "Renewal", "Change"))
LEAST = 0.32
"""A form's entries are small: it is never shown on less of a picture than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entries:
    """How a form is filled in: by hand or by machine, and what about."""

    who: Person
    hand: bool
    ink: Colour
    size: float


def filled_form(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a form with somebody's entries, ticks and signature."""
    hand = chance(rng, 0.6)
    ink = PENS[int(rng.integers(len(PENS)))] if hand else INK
    who = person(rng, design.faces.script)
    return _draw(design, rng, _Entries(who=who, hand=hand, ink=ink, size=rng.uniform(0.9, 1.15)))


def blank_form(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw an official looking form that nobody has filled in; the photo box is empty."""
    return _draw(design, rng, None)


def _draw(design: Design, rng: np.random.Generator, entries: _Entries | None) -> Artwork:
    plan = design.plan()
    at = sheet(plan)
    canvas = blank(design.sides(at.ratio), mix((252, 252, 250), (236, 226, 200), rng.random() ** 2))
    _header(canvas, design, rng, plan, at)
    for cell in at.cells:
        _cell(canvas, design, rng, at, cell)
        if entries is not None:
            _enter(canvas, design, rng, cell, entries)
    canvas.text((at.edge, 0.975), words(rng, 9), design.faces.body, 0.02, INK, room=0.7)
    written = "no" if entries is None else "hand" if entries.hand else "type"
    return design.done(canvas, least=LEAST, header=at.header, photo=str(at.photo).lower(), written=written)


def _header(canvas: Canvas, design: Design, rng: np.random.Generator, plan: np.random.Generator, at: Sheet) -> None:
    scheme, faces = design.scheme, design.faces
    ink: Ink = mix(scheme.accent, INK, 0.7)
    if at.header == "bar":
        canvas.fill((0, 0, 1, at.head), scheme.accent)
        ink = ink_on(scheme.accent)
    elif at.header == "frame":
        canvas.frame((at.edge, 0.02, 1 - at.edge, at.head - 0.01), ink, 0.005)
    colours = (scheme.accent2, scheme.ground) if at.header == "bar" else (scheme.accent, scheme.accent2)
    mark = (at.edge + 0.01, 0.028, at.edge + 0.12, at.head - 0.015)
    if at.mark == "emblem":
        emblem(canvas, mark, colours, plan)
    elif at.mark == "flag":
        flag(canvas, mark, plan)
    elif at.mark == "logo":
        logo(canvas, mark, colours, plan)
    left = at.edge + (0.15 if at.mark else 0.02)
    middle = at.head / 2
    canvas.text((left, middle), pick(rng, TITLES), faces.bold, at.title, ink, room=0.92 - left)
    office = in_script(f"{name(rng)} {name(rng)}", faces.script)
    canvas.text((left, middle + 0.035), office, faces.body, at.title * 0.5, ink, room=0.92 - left)


def _cell(canvas: Canvas, design: Design, rng: np.random.Generator, at: Sheet, cell: Cell) -> None:
    """Draw one empty field with its label."""
    x0, y0, x1, y1 = cell.area
    ink, faint = mix(design.scheme.accent, INK, 0.75), mix(design.scheme.faint, INK, 0.3)
    face = design.faces.body
    if cell.kind == "section":
        canvas.fill(cell.area, mix(design.scheme.accent, (255, 255, 255), 0.45))
        label = in_script(words(rng, 2).title(), design.faces.script)
        canvas.text((x0 + 0.01, y1 - 0.008), label, design.faces.bold, at.label * 1.15, INK, room=x1 - x0)
        return
    if cell.kind == "photo":
        canvas.frame(cell.area, ink)
        canvas.text(((x0 + x1) / 2, (y0 + y1) / 2), "PHOTO", face, 0.04, faint, anchor="mm")
        if at.outline:
            silhouette(canvas, cell.area, design)
        return
    label = f"{cell.number}. {cell.label}" if at.numbered else in_script(cell.label, design.faces.script)
    canvas.text((x0 + 0.006, y0 + at.label * canvas.unit / canvas.height), label, face, at.label, ink, room=x1 - x0)
    if cell.kind == "ticks":
        for slot, choice in enumerate(_choices(cell)):
            x = x0 + slot * (x1 - x0) / 3
            canvas.frame(_tick_box(canvas, x, y1), ink, 0.004)
            canvas.text((x + 0.05, y1 - 0.006), choice, face, at.label * 1.1, ink, room=(x1 - x0) / 3 - 0.05)
    else:
        _place_to_write(canvas, cell, faint, mix(design.scheme.accent, (255, 255, 255), 0.85))


def _place_to_write(canvas: Canvas, cell: Cell, faint: Colour, shade: Colour) -> None:
    """Draw the line, the box or the comb that an entry goes into."""
    x0, y0, x1, y1 = cell.area
    if cell.kind == "line":
        canvas.fill((x0, y1 - 0.002, x1, y1), faint)
    elif cell.kind in ("box", "sign"):
        canvas.frame(cell.area, faint, 0.003)
    elif cell.kind == "shade":
        canvas.fill((x0, y0 + 0.4 * (y1 - y0), x1, y1), shade)
    elif cell.kind == "comb":
        wide = (x1 - x0) / cell.slots
        for slot in range(cell.slots):
            canvas.frame((x0 + wide * slot, y0 + 0.42 * (y1 - y0), x0 + wide * (slot + 1), y1), faint, 0.002)


def _choices(cell: Cell) -> tuple[str, ...]:
    return CHOICES[cell.number % len(CHOICES)]


def _tick_box(canvas: Canvas, x: float, low: float) -> tuple[float, float, float, float]:
    edge = 0.028 * canvas.unit
    return (x, low - edge / canvas.height, x + edge / canvas.width, low)


def _enter(canvas: Canvas, design: Design, rng: np.random.Generator, cell: Cell, entries: _Entries) -> None:
    """Fill one field in."""
    x0, y0, x1, y1 = cell.area
    if cell.kind == "photo":
        if chance(rng, 0.7):
            left, top, right, low = canvas.box(cell.area)
            canvas.paste(portrait(rng, right - left, low - top), cell.area)
    elif cell.label == "Signature":
        signature(canvas, (x0 + 0.02, y0 + 0.25 * (y1 - y0), x0 + 0.8 * (x1 - x0), y1), rng, entries.ink)
    elif cell.kind == "ticks":
        _tick(canvas, rng, cell, entries.ink)
    elif cell.kind != "section" and chance(rng, 0.93):
        text = _value(rng, cell.label, entries.who, design.faces.script)
        if cell.kind == "comb":
            _comb(canvas, design, rng, cell, entries, text)
        else:
            size = min(0.052, 0.58 * (y1 - y0) * canvas.height / canvas.unit) * entries.size
            spot = (x0 + 0.015, y1 - 0.12 * (y1 - y0))
            room = x1 - x0 - 0.025
            if entries.hand:
                handwrite(canvas, spot, text, Hand(design.faces.hand, entries.ink), size * 1.1, rng, room=room)
            else:
                canvas.text(spot, text, design.faces.mono, size, entries.ink, room=room)


def _comb(canvas: Canvas, design: Design, rng: np.random.Generator, cell: Cell, entries: _Entries, text: str) -> None:
    """Write one letter into each box."""
    x0, y0, x1, y1 = cell.area
    wide = (x1 - x0) / cell.slots
    size = min(0.4 * (y1 - y0) * canvas.height, 0.95 * wide * canvas.width) / canvas.unit
    for slot, letter in enumerate(text.upper()[: cell.slots]):
        y = y1 - 0.14 * (y1 - y0)
        if entries.hand:
            handwrite(canvas, (x0 + wide * (slot + 0.2), y), letter, Hand(design.faces.hand, entries.ink), size, rng)
        else:
            spot = (x0 + wide * (slot + 0.5), y)
            canvas.text(spot, letter, design.faces.mono, size, entries.ink, anchor="ms")


def _tick(canvas: Canvas, rng: np.random.Generator, cell: Cell, ink: Colour) -> None:
    slot = int(rng.integers(len(_choices(cell))))
    x = cell.area[0] + slot * (cell.area[2] - cell.area[0]) / 3
    x0, y0, x1, y1 = canvas.box(_tick_box(canvas, x, cell.area[3]))
    width, over = max(2, (x1 - x0) // 6), (x1 - x0) // 4
    canvas.draw.line([x0, y0, x1 + over, y1], fill=ink, width=width)
    canvas.draw.line([x0, y1, x1 + over, y0 - over], fill=ink, width=width)


def _value(rng: np.random.Generator, label: str, who: Person, script: str) -> str:
    """Find what somebody would write into a field of this label."""
    known = {
        "Surname": who.surname,
        "First names": who.given,
        "Date of birth": who.born,
        "Place of birth": who.place,
        "Nationality": who.state.split()[-1],
        "Document no.": who.number,
        "Telephone": f"+00 {digits(rng, 3)} {digits(rng, 6)}",
        "E-mail": f"{who.latin[0].lower()}@{name(rng).lower()}.example",
        "Account": f"{who.code[:2]}{digits(rng, 2)} {digits(rng, 4)} {digits(rng, 4)} {digits(rng, 4)}",
        "Date": date(rng, 2018, 2027, "dots"),
        "Postcode": digits(rng, 5),
    }
    return known.get(label) or in_script(f"{name(rng)} {int(rng.integers(1, 90))}", script)
