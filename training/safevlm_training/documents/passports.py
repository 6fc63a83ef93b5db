"""Data pages of invented passports, alone or in an open booklet, and the same pages before anybody owns them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas
from .design import Design, blank
from .grounds import card_ground, rosette
from .identity_form import silhouette
from .ornaments import emblem, hologram, signature
from .palette import mix
from .people import Person, machine_lines, person, state_title
from .portraits import portrait
from .scripts import in_script
from .streams import chance, pick
from .text import digits, words
from .values import Artwork, Box

PAGE = 125.0 / 88.0
"""Long over short side of a passport page (ISO/IEC 7810 ID-3)."""

TITLES = ("PASSPORT", "PASSEPORT", "PASAPORTE", "REISEPASS", "PASSAPORTO")
LINES: Box = (0.02, 0.79, 0.98, 0.98)
"""Where the machine readable lines stand on the data page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """Where a template puts things; fractions of the sides of the data page."""

    photo: Box
    left: float
    right: float
    top: float
    step: float
    size: float
    title: str
    crowded: bool
    open: str
    mark: float
    foil: float | None


def _page(plan: np.random.Generator) -> _Page:
    high, top = plan.uniform(0.38, 0.56), plan.uniform(0.15, 0.24)
    wide = high * plan.uniform(0.48, 0.58)
    edge = plan.uniform(0.03, 0.07)
    on_left = chance(plan, 0.8)
    x = edge if on_left else 1 - edge - wide
    return _Page(
        photo=(x, top, x + wide, top + high),
        left=x + wide + plan.uniform(0.03, 0.07) if on_left else edge,
        right=0.97 if on_left else x - 0.03,
        top=plan.uniform(0.125, 0.17),
        step=plan.uniform(0.096, 0.108),
        size=plan.uniform(0.044, 0.056),
        title=pick(plan, ("line", "two", "bar", "right")),
        crowded=chance(plan, 0.6),
        open=pick(plan, ("no", "no", "no", "above", "below")),
        mark=plan.uniform(0.2, 0.55),
        foil=plan.uniform(0.28, 0.7) if chance(plan, 0.6) else None,
    )


def passport(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a passport's data page; some templates show the page beside it as well."""
    plan = design.plan()
    at = _page(plan)
    who = person(rng, design.faces.script)
    canvas, pattern = _start(design, rng, plan, at, who.state)
    x0, y0, x1, y1 = canvas.box(at.photo)
    canvas.paste(portrait(rng, x1 - x0, y1 - y0), at.photo)
    _fields(canvas, design, at, _rows(who))
    signature(canvas, (at.left + 0.3, 0.63, at.left + 0.58, 0.76), rng, (*design.scheme.ink, 220))
    lines = machine_lines(rng, who, "P", 2, 44)
    return _finish(design, rng, plan, at, (canvas, pattern, lines))


def blank_passport(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a passport's page without an owner: an empty data page, or a page for visas or notes."""
    plan = design.plan()
    at = _page(plan)
    canvas, pattern = _start(design, rng, plan, at, in_script(state_title(rng), design.faces.script))
    lines = ["<" * 44] * 2 if chance(rng, 0.4) else []
    if chance(rng, 0.6):
        canvas.fill(at.photo, mix(design.scheme.ground, (255, 255, 255), 0.5))
        canvas.frame(at.photo, design.scheme.faint)
        if chance(rng, 0.5):
            silhouette(canvas, at.photo, design)
        _fields(canvas, design, at, [[(label, "") for label, _ in row] for row in _LABELS])
    else:
        script = design.faces.script
        for row in range(int(rng.integers(0, 7))):
            text = in_script(words(rng, 6), script)
            canvas.text((0.08, 0.25 + 0.07 * row), text, design.faces.body, 0.045, design.scheme.ink, room=0.8)
    return _finish(design, rng, plan, at, (canvas, pattern, lines))


def _start(
    design: Design, rng: np.random.Generator, plan: np.random.Generator, at: _Page, state: str
) -> tuple[Canvas, str]:
    """Draw ground, watermark, title and foil of the data page; also name the pattern."""
    canvas, pattern = design.card(rng, plan, PAGE)
    scheme, faces = design.scheme, design.faces
    emblem(canvas, (at.mark, 0.2, at.mark + 0.4, 0.78), (scheme.faint, scheme.ground), plan, 60)
    title, ink = pick(rng, TITLES), scheme.ink
    if at.title == "bar":
        canvas.fill((0, 0, 1, 0.115), mix(scheme.ground, scheme.accent, 0.35))
    if at.title == "two":
        canvas.text((0.5, 0.06), state.upper(), faces.bold, 0.05, ink, anchor="ms", room=0.8)
        canvas.text((0.5, 0.11), title, faces.bold, 0.045, ink, anchor="ms", room=0.8)
    else:
        first, second = (title, state.upper()) if at.title != "right" else (state.upper(), title)
        canvas.text((0.05, 0.09), first, faces.bold, 0.06, ink, room=0.42)
        canvas.text((0.95, 0.09), second, faces.bold, 0.055, ink, anchor="rs", room=0.44)
    if at.foil is not None:
        hologram(canvas, (at.foil, 0.25, at.foil + 0.17, 0.5), rng)
    return canvas, pattern


_LABELS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("Type", "P"), ("Code", "code"), ("Passport No.", "number")),
    (("Surname", "surname"),),
    (("Given names", "given"),),
    (("Date of birth", "born"), ("Sex", "sex"), ("Place of birth", "place")),
    (("Date of issue", "issued"), ("Authority", "place")),
    (("Date of expiry", "expires"),),
)


def _rows(who: Person) -> list[list[tuple[str, str]]]:
    values = {
        "code": who.code, "number": who.number, "surname": who.surname.upper(), "given": who.given.upper(),
        "born": who.born, "sex": who.sex, "place": who.place, "issued": who.issued, "expires": who.expires,
    }  # fmt: skip
    return [[(label, values.get(part, part)) for label, part in row] for row in _LABELS]


def _fields(canvas: Canvas, design: Design, at: _Page, rows: list[list[tuple[str, str]]]) -> None:
    faces, scheme = design.faces, design.scheme
    faint = mix(scheme.faint, scheme.ink, 0.4)
    for row, fields in enumerate(rows):
        shown = fields if at.crowded else fields[:2]
        room = (at.right - at.left) / len(shown)
        for column, (label, value) in enumerate(shown):
            x, y = at.left + room * column, at.top + at.step * row
            canvas.text((x, y + 0.025), in_script(label, faces.script), faces.body, 0.028, faint, room=room)
            canvas.text((x, y + 0.075), value, faces.bold, at.size, scheme.ink, room=room - 0.01)


def _finish(
    design: Design,
    rng: np.random.Generator,
    plan: np.random.Generator,
    at: _Page,
    drawn: tuple[Canvas, str, list[str]],
) -> Artwork:
    """Add the machine readable lines and, in an open booklet, the page above or below."""
    page, pattern, lines = drawn
    page.fill((0, 0.79, 1, 1), mix(design.scheme.ground, (255, 255, 255), 0.6))
    for row, line in enumerate(lines):
        page.text((0.035, 0.87 + 0.085 * row), line, design.faces.mono, 0.07, (18, 18, 22), room=0.93)
    owned = any(set(line) - {"<"} for line in lines)
    if at.open == "no":
        number = LINES if owned else None
        return design.done(page, radius=0.03, number=number, pattern=pattern, open=at.open)
    width, height = page.image.size
    canvas = blank((width, height * 2), design.scheme.accent)
    other, _ = card_ground(rng, plan, (width, height), design.scheme)
    low = height if at.open == "above" else 0
    canvas.image.paste(page.image, (0, low))
    canvas.image.paste(other, (0, height - low))
    _facing_page(canvas, design, rng, plan, (height - low) / (2 * height))
    for step in range(8):
        y = height - 4 + step
        canvas.draw.line([0, y, width, y], fill=(20, 20, 20, 90 - 20 * abs(step - 4)))
    image = canvas.image.resize((width * design.size // (height * 2), design.size))
    top = low / (2 * height)
    number = (LINES[0], top + LINES[1] / 2, LINES[2], top + LINES[3] / 2) if owned else None
    return design.done(Canvas(image), radius=0.03, number=number, pattern=pattern, open=at.open)


def _facing_page(
    canvas: Canvas, design: Design, rng: np.random.Generator, plan: np.random.Generator, top: float
) -> None:
    """Fill the other page: an emblem, a rosette, lines of print."""
    spot = (canvas.width * plan.uniform(0.3, 0.7), canvas.height * (top + 0.25))
    rosette(canvas.draw, spot, canvas.height * 0.17, design.scheme.faint, int(plan.integers(5, 12)))
    ink, style = design.scheme.ink, pick(plan, ("emblem", "print", "visas"))
    if style == "emblem":
        emblem(canvas, (0.38, top + 0.14, 0.62, top + 0.34), (design.scheme.accent, design.scheme.accent2), plan, 170)
        canvas.text((0.5, top + 0.45), digits(rng, 2), design.faces.mono, 0.06, ink, anchor="ms")
    elif style == "print":
        for row in range(7):
            text = in_script(words(rng, 7), design.faces.script)
            canvas.text((0.08, top + 0.13 + 0.04 * row), text, design.faces.body, 0.04, ink, room=0.84)
    canvas.text((0.5, top + 0.07), pick(rng, (*TITLES, "VISAS", "NOTES")), design.faces.bold, 0.07, ink, anchor="ms")
