"""Identity cards and driving licences of invented states."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from .canvas import Canvas
from .design import CARD, Design
from .identity_form import (
    ID_TITLES,
    LICENCE_TITLES,
    RADIUS,
    Form,
    draw_extras,
    draw_header,
    draw_watermark,
    form,
)
from .ornaments import chip, matrix_code, signature
from .palette import mix
from .people import Person, machine_lines, person
from .portraits import portrait
from .scripts import in_script
from .streams import chance, pick
from .text import words
from .values import Artwork, Box

LABELS = ("Surname", "Given names", "Date of birth", "Place of birth", "Sex", "Document No.", "Issued", "Expires")
TAGS = ("1.", "2.", "3.", "8.", "9.", "5.", "4a.", "4b.")


def id_card(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw the front of an identity card, now and then its back."""
    plan = design.plan()
    return _back(design, rng, plan) if chance(plan, 0.1) else _front(design, rng, plan)


def driving_licence(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a driving licence with numbered fields."""
    return _front(design, rng, design.plan())


def _front(design: Design, rng: np.random.Generator, plan: np.random.Generator) -> Artwork:
    licence = design.template == "driving_licence"
    at = form(plan, licence)
    canvas, pattern = design.card(rng, plan, at.ratio)
    draw_watermark(canvas, design, plan)
    who = person(rng, design.faces.script)
    title = pick(rng, LICENCE_TITLES if licence else ID_TITLES)
    title = in_script(title, design.faces.script) if chance(rng, 0.5) else title
    draw_header(canvas, design, plan, at.header, (who.state.upper(), title))
    x0, y0, x1, y1 = canvas.box(at.photo)
    face = portrait(rng, x1 - x0, y1 - y0)
    canvas.paste(face, at.photo)
    if chance(plan, 0.35):
        _ghost(canvas, face, (at.right - 0.13, 0.5, at.right, 0.76))
    draw_extras(canvas, design, rng, plan, at)
    number = _fields(canvas, design, plan, at, who)
    _foot(canvas, design, rng, at, who)
    return design.done(canvas, radius=RADIUS, number=number, pattern=pattern, header=at.header, foot=at.foot)


def _ghost(canvas: Canvas, face: Image.Image, area: Box) -> None:
    """Print the portrait again, small and pale."""
    x0, y0, x1, y1 = canvas.box(area)
    pale = ImageOps.grayscale(face.resize((x1 - x0, y1 - y0))).convert("RGB")
    under = canvas.image.crop((x0, y0, x1, y1))
    canvas.image.paste(Image.blend(under, pale, 0.45), (x0, y0))


def _rows(plan: np.random.Generator, design: Design, who: Person, numbered: bool) -> list[tuple[str, str]]:
    values = (who.surname.upper(), who.given, who.born, who.place, who.sex, who.number, who.issued, who.expires)
    names = TAGS if numbered else tuple(in_script(label, design.faces.script) for label in LABELS)
    order = [0, 1, 2, 5, 7, 4, 3, 6] if numbered else [0, 1, *plan.permutation([4, 2, 5, 7]).tolist(), 3, 6]
    return [(names[i], values[i]) for i in order]


def _fields(canvas: Canvas, design: Design, plan: np.random.Generator, at: Form, who: Person) -> Box:
    """Write labels and values beside the photo; return where the document number stands."""
    faces, ink, faint = design.faces, design.scheme.ink, mix(design.scheme.faint, design.scheme.ink, 0.4)
    room = (at.right - at.left) / at.columns
    bold = faces.bold if chance(plan, 0.6) else faces.body
    indent = 0.045 if at.numbered else min(room * 0.42, 0.2)
    number = (at.left, at.top, at.right, at.top + at.step * 3)
    y, column = at.top, 0
    for index, (label, value) in enumerate(_rows(plan, design, who, at.numbered)):
        x = at.left + room * column
        if at.numbered or at.beside:
            canvas.text((x, y + at.step * 0.64), label, faces.body, at.size * 0.6, faint, room=indent - 0.01)
            canvas.text((x + indent, y + at.step * 0.64), value, bold, at.size, ink, room=room - indent - 0.015)
        else:
            canvas.text((x, y + at.step * 0.28), label, faces.body, at.size * 0.54, faint, room=room)
            canvas.text((x, y + at.step * 0.84), value, bold, at.size, ink, room=room - 0.02)
        if value == who.number:
            number = (x, y, x + room, y + at.step)
        column = column + 1 if column + 1 < at.columns and index >= 2 else 0
        if column == 0:
            y += at.step
        if y + at.step > at.low:
            break
    return number


def _foot(canvas: Canvas, design: Design, rng: np.random.Generator, at: Form, who: Person) -> None:
    """Sign the card, and print machine readable lines where the template has them."""
    free = at.low > 0.9 and not at.upright
    low = 0.83 if free else at.photo[3] - 0.13
    start = at.photo[0] if free else at.right - 0.26
    signature(canvas, (start, low, start + 0.25, low + 0.12), rng, (*design.scheme.ink, 220))
    if at.foot == "mrz":
        canvas.fill((0, 0.8, 1, 1), mix(design.scheme.ground, (255, 255, 255), 0.55))
        for row, line in enumerate(machine_lines(rng, who, "I", 2, 30 if at.upright else 36)):
            canvas.text((0.04, 0.88 + 0.08 * row), line, design.faces.mono, 0.075, (20, 20, 24), room=0.92)


def _back(design: Design, rng: np.random.Generator, plan: np.random.Generator) -> Artwork:
    """Draw the back of an identity card: address, code and three machine readable lines."""
    canvas, pattern = design.card(rng, plan, CARD)
    who = person(rng, design.faces.script)
    ink, faces = design.scheme.ink, design.faces
    left = plan.uniform(0.32, 0.42)
    values = (in_script(words(rng, 2).title(), faces.script), who.place, who.issued, who.number)
    for row, value in enumerate(values):
        label = in_script(pick(plan, ("Address", "Authority", "Height", "No.")), faces.script)
        canvas.text((left, 0.12 + 0.13 * row), label, faces.body, 0.036, ink)
        canvas.text((left, 0.19 + 0.13 * row), value, faces.bold, 0.065, ink, room=0.36)
    if chance(plan, 0.6):
        chip(canvas, (0.08, 0.12, 0.24, 0.32), rng)
    matrix_code(canvas, (0.08, 0.36, 0.28, 0.62), rng)
    signature(canvas, (0.74, 0.36, 0.96, 0.56), rng, ink)
    canvas.fill((0, 0.66, 1, 1), mix(design.scheme.ground, (255, 255, 255), 0.6))
    for row, line in enumerate(machine_lines(rng, who, "ID", 3, 30)):
        canvas.text((0.05, 0.77 + 0.09 * row), line, faces.mono, 0.08, (20, 20, 24), room=0.9)
    box = (0.04, 0.68, 0.96, 0.98)
    return design.done(canvas, radius=RADIUS, number=box, pattern=pattern, header="back", foot="mrz")
