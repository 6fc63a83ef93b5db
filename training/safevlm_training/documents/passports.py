"""Data pages of invented passports, alone or in an open booklet."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .design import Design, blank
from .grounds import card_ground, rosette
from .ornaments import emblem, hologram, signature
from .palette import mix
from .people import Person, machine_lines, person
from .portraits import portrait
from .streams import chance, pick
from .text import digits, in_script
from .values import Artwork, Box

PAGE = 125.0 / 88.0
"""Long over short side of a passport page (ISO/IEC 7810 ID-3)."""

TITLES = ("PASSPORT", "PASSEPORT", "PASAPORTE", "REISEPASS", "PASSAPORTO")


def passport(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a passport's data page; some templates show the page above it as well."""
    plan = design.plan()
    booklet = chance(plan, 0.45)
    who = person(rng, design.faces.script)
    page, pattern = _data_page(design, rng, plan, who)
    if not booklet:
        return design.done(page, radius=0.03, number=_LINES, pattern=pattern, open="no")
    width, height = page.image.size
    canvas = blank((width, height * 2), design.scheme.accent)
    upper, _ = card_ground(rng, plan, (width, height), design.scheme)
    canvas.image.paste(upper, (0, 0))
    canvas.image.paste(page.image, (0, height))
    _facing_page(canvas, design, rng, plan)
    for step in range(8):
        y = height - 4 + step
        canvas.draw.line([0, y, width, y], fill=(20, 20, 20, 90 - 20 * abs(step - 4)))
    longest = max(canvas.image.size)
    image = canvas.image
    if longest > design.size:
        image = image.resize((width * design.size // longest, height * 2 * design.size // longest))
    number = (_LINES[0], 0.5 + _LINES[1] / 2, _LINES[2], 1.0)
    return design.done(Canvas(image), radius=0.03, number=number, pattern=pattern, open="yes")


_LINES: Box = (0.02, 0.79, 0.98, 0.98)


def _data_page(
    design: Design, rng: np.random.Generator, plan: np.random.Generator, who: Person
) -> tuple[Canvas, str]:
    canvas, pattern = design.card(rng, plan, PAGE)
    scheme, faces = design.scheme, design.faces
    emblem(canvas, (0.4, 0.2, 0.85, 0.78), (scheme.faint, scheme.ground), plan, 60)
    canvas.text((0.05, 0.09), pick(rng, TITLES), faces.bold, 0.07, scheme.ink, room=0.25)
    canvas.text((0.36, 0.09), who.state.upper(), faces.bold, 0.055, scheme.ink, room=0.6)
    high, top = plan.uniform(0.42, 0.52), plan.uniform(0.16, 0.24)
    wide = high * plan.uniform(0.5, 0.56)
    photo = (0.045, top, 0.045 + wide, top + high)
    x0, y0, x1, y1 = canvas.box(photo)
    canvas.paste(portrait(rng, x1 - x0, y1 - y0), photo)
    left = photo[2] + plan.uniform(0.04, 0.07)
    _page_fields(canvas, design, plan, who, left)
    signature(canvas, (left + 0.3, 0.62, left + 0.62, 0.76), rng, (*scheme.ink, 220))
    if chance(plan, 0.6):
        x = plan.uniform(0.28, 0.7)
        hologram(canvas, (x, 0.25, x + 0.17, 0.5), rng)
    canvas.fill((0, 0.79, 1, 1), mix(scheme.ground, (255, 255, 255), 0.6))
    for row, line in enumerate(machine_lines(rng, who, "P", 2, 44)):
        canvas.text((0.035, 0.87 + 0.085 * row), line, faces.mono, 0.07, (18, 18, 22), room=0.93)
    return canvas, pattern


def _page_fields(canvas: Canvas, design: Design, plan: np.random.Generator, who: Person, left: float) -> None:
    faces, scheme = design.faces, design.scheme
    faint = mix(scheme.faint, scheme.ink, 0.4)
    rows = (
        (("Type", "P"), ("Code", who.code), ("Passport No.", who.number)),
        (("Surname", who.surname.upper()),),
        (("Given names", who.given.upper()),),
        (("Date of birth", who.born), ("Sex", who.sex), ("Place of birth", who.place)),
        (("Date of issue", who.issued), ("Authority", who.place)),
        (("Date of expiry", who.expires),),
    )
    step, top = plan.uniform(0.098, 0.107), plan.uniform(0.13, 0.17)
    for row, fields in enumerate(rows):
        room = (0.97 - left) / len(fields)
        for column, (label, value) in enumerate(fields):
            x = left + room * column
            shown = label if faces.script == "latin" else in_script(label.lower(), faces.script)
            canvas.text((x, top + step * row + 0.025), shown, faces.body, 0.028, faint, room=room)
            canvas.text((x, top + step * row + 0.075), value, faces.bold, 0.05, scheme.ink, room=room - 0.01)


def _facing_page(canvas: Canvas, design: Design, rng: np.random.Generator, plan: np.random.Generator) -> None:
    """Fill the page above: an emblem, a rosette, a perforated number."""
    spot = (canvas.width * plan.uniform(0.3, 0.7), canvas.height * 0.25)
    rosette(canvas.draw, spot, canvas.height * 0.17, design.scheme.faint, int(plan.integers(5, 12)))
    if chance(plan, 0.6):
        emblem(canvas, (0.38, 0.14, 0.62, 0.34), (design.scheme.accent, design.scheme.accent2), plan, 170)
    canvas.text((0.5, 0.45), digits(rng, 9), design.faces.mono, 0.06, design.scheme.ink, anchor="ms")
    canvas.text((0.5, 0.07), pick(rng, TITLES), design.faces.bold, 0.07, design.scheme.ink, anchor="ms")
