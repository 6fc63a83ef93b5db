"""Identity cards and driving licences of invented states, and the same forms left blank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from .canvas import Canvas
from .design import CARD, Design
from .ornaments import barcode, chip, emblem, flag, hologram, matrix_code, signature
from .palette import ink_on, mix
from .people import Person, machine_lines, person
from .portraits import portrait
from .streams import chance, pick
from .text import in_script, words
from .values import Artwork, Box

RADIUS = 0.058
ID_TITLES = (
    "IDENTITY CARD", "NATIONAL IDENTITY CARD", "CARTE D'IDENTITE", "RESIDENCE PERMIT", "CITIZEN CARD",
    "TARJETA DE IDENTIDAD", "PERSONALKARTE",
)  # fmt: skip
LICENCE_TITLES = (
    "DRIVING LICENCE",
    "DRIVER LICENSE",
    "PERMIS DE CONDUIRE",
    "PERMISO DE CONDUCIR",
    "PATENTE DI GUIDA",
    "OPERATOR LICENSE",
)


@dataclass(frozen=True, slots=True)
class _Form:
    """Where a template puts things; fractions of the sides."""

    photo: Box
    left: float
    right: float
    top: float
    step: float
    header: str
    columns: int
    numbered: bool
    foot: str


def _form(plan: np.random.Generator, numbered: bool) -> _Form:
    foot = pick(plan, ("", "mrz", "code", "", "classes" if numbered else "mrz"))
    high = plan.uniform(0.46, 0.56) if foot else plan.uniform(0.5, 0.64)
    wide = high * plan.uniform(0.44, 0.52)
    top = plan.uniform(0.22, 0.28)
    on_left = chance(plan, 0.7)
    edge = plan.uniform(0.04, 0.07)
    x = edge if on_left else 1 - edge - wide
    return _Form(
        photo=(x, top, x + wide, top + high),
        left=x + wide + 0.045 if on_left else edge,
        right=1 - edge if on_left else x - 0.03,
        top=top + 0.01,
        step=plan.uniform(0.1, 0.125) if foot else plan.uniform(0.115, 0.145),
        header=pick(plan, ("bar", "plain", "flag", "centre", "band")),
        columns=int(plan.integers(1, 3)),
        numbered=numbered,
        foot=foot,
    )


def id_card(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw the front of an identity card, now and then its back."""
    plan = design.plan()
    if chance(plan, 0.1):
        return _id_back(design, rng, plan)
    return _card(design, rng, plan, person(rng, design.faces.script))


def driving_licence(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a driving licence with numbered fields."""
    return _card(design, rng, design.plan(), person(rng, design.faces.script))


def specimen_card(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw an identity card or licence with an empty photo frame and no data."""
    return _card(design, rng, design.plan(), None)


def _card(design: Design, rng: np.random.Generator, plan: np.random.Generator, who: Person | None) -> Artwork:
    licence = design.kind == "driving_licence" or (who is None and chance(plan, 0.4))
    form = _form(plan, licence)
    canvas, pattern = design.card(rng, plan, CARD)
    if chance(plan, 0.5):
        emblem(canvas, (0.5, 0.3, 0.85, 0.85), (design.scheme.faint, design.scheme.ground), plan, 70)
    _header(canvas, design, rng, plan, form.header, pick(rng, LICENCE_TITLES if licence else ID_TITLES), who)
    photo_ink = mix(design.scheme.ground, (255, 255, 255), 0.5)
    if who is None:
        canvas.fill(form.photo, photo_ink)
        canvas.frame(form.photo, design.scheme.faint)
        if chance(rng, 0.6):
            _silhouette(canvas, form.photo, design)
    else:
        x0, y0, x1, y1 = canvas.box(form.photo)
        face = portrait(rng, x1 - x0, y1 - y0)
        canvas.paste(face, form.photo)
        if chance(plan, 0.35):
            _ghost(canvas, face, (form.right - 0.13, 0.5, form.right, 0.76))
    number = _fields(canvas, design, rng, plan, form, who)
    _extras(canvas, design, rng, plan, form, who)
    return design.done(canvas, radius=RADIUS, number=number, pattern=pattern, header=form.header, foot=form.foot)


def _header(
    canvas: Canvas,
    design: Design,
    rng: np.random.Generator,
    plan: np.random.Generator,
    style: str,
    title: str,
    who: Person | None,
) -> None:
    scheme, faces = design.scheme, design.faces
    state = (who or person(rng, "latin")).state.upper()
    ink = scheme.ink
    colours = (scheme.accent, scheme.accent2)
    if style in ("bar", "band"):
        canvas.fill((0, 0, 1, 0.17 if style == "bar" else 0.08), scheme.accent)
        ink = ink_on(scheme.accent)
    if style == "band":
        canvas.text((0.5, 0.065), state, faces.bold, 0.055, ink, anchor="ms", room=0.8)
        canvas.text((0.5, 0.175), title, faces.bold, 0.075, scheme.ink, anchor="ms", room=0.8)
    elif style == "centre":
        emblem(canvas, (0.04, 0.03, 0.14, 0.19), colours, plan)
        canvas.text((0.5, 0.09), state, faces.bold, 0.07, ink, anchor="ms", room=0.66)
        canvas.text((0.5, 0.175), title, faces.body, 0.06, ink, anchor="ms", room=0.66)
    else:
        start = 0.05
        if style == "flag" or chance(plan, 0.5):
            flag(canvas, (0.05, 0.04, 0.16, 0.15), plan)
            start = 0.19
        canvas.text((start, 0.085), state, faces.bold, 0.068, ink, room=0.55)
        canvas.text((start, 0.15), title, faces.body, 0.055, ink, room=0.55)
        emblem(canvas, (0.86, 0.02, 0.96, 0.17), (scheme.accent2, scheme.ground), plan)


def _silhouette(canvas: Canvas, photo: Box, design: Design) -> None:
    x0, y0, x1, y1 = canvas.box(photo)
    wide, high = x1 - x0, y1 - y0
    ink = (*design.scheme.faint, 150)
    canvas.draw.ellipse([x0 + wide * 0.32, y0 + high * 0.18, x1 - wide * 0.32, y0 + high * 0.55], fill=ink)
    canvas.draw.pieslice([x0 + wide * 0.12, y0 + high * 0.62, x1 - wide * 0.12, y1 + high * 0.36], 180, 360, fill=ink)


def _ghost(canvas: Canvas, face: Image.Image, area: Box) -> None:
    """Print the portrait again, small and pale."""
    x0, y0, x1, y1 = canvas.box(area)
    pale = ImageOps.grayscale(face.resize((x1 - x0, y1 - y0))).convert("RGB")
    under = canvas.image.crop((x0, y0, x1, y1))
    canvas.image.paste(Image.blend(under, pale, 0.45), (x0, y0))


def _values(rng: np.random.Generator, design: Design, who: Person | None, numbered: bool) -> list[tuple[str, str]]:
    labels = ["Surname", "Given names", "Date of birth", "Place of birth", "Sex", "Document No.", "Issued", "Expires"]
    tags = ["1.", "2.", "3.", "8.", "9.", "5.", "4a.", "4b."]
    if who is None:
        values = [""] * 8
    else:
        values = [who.surname.upper(), who.given, who.born, who.place, who.sex, who.number, who.issued, who.expires]
    if design.faces.script != "latin":
        labels = [in_script(label.lower(), design.faces.script) for label in labels]
    names = tags if numbered else labels
    order = [0, 1, 2, 5, 7, 4, 3, 6] if numbered else [0, 1, 4, 2, 5, 7, 3, 6]
    return [(names[i], values[i]) for i in order]


def _fields(
    canvas: Canvas,
    design: Design,
    rng: np.random.Generator,
    plan: np.random.Generator,
    form: _Form,
    who: Person | None,
) -> Box:
    """Write labels and values beside the photo; return where the document number stands."""
    rows = _values(rng, design, who, form.numbered)
    room = (form.right - form.left) / form.columns
    faces, ink, faint = design.faces, design.scheme.ink, mix(design.scheme.faint, design.scheme.ink, 0.4)
    bold = faces.bold if chance(plan, 0.6) else faces.body
    number = (form.left, form.top, form.right, form.top + form.step * 3)
    y, column = form.top, 0
    for index, (label, value) in enumerate(rows):
        x = form.left + room * column
        if form.numbered:
            canvas.text((x, y + form.step * 0.62), label, faces.body, 0.042, faint)
            canvas.text((x + 0.045, y + form.step * 0.62), value, bold, 0.066, ink, room=room - 0.06)
        else:
            canvas.text((x, y + form.step * 0.28), label, faces.body, 0.036, faint, room=room)
            canvas.text((x, y + form.step * 0.82), value, bold, 0.066, ink, room=room - 0.02)
        if who is None:
            canvas.fill((x, y + form.step * 0.86, x + room - 0.03, y + form.step * 0.87), faint)
        if who is not None and value == who.number:
            number = (x, y, x + room, y + form.step)
        column = column + 1 if column + 1 < form.columns and index >= 2 else 0
        if column == 0:
            y += form.step
        if y + form.step > (0.8 if form.foot else 0.95):
            break
    return number


def _extras(
    canvas: Canvas,
    design: Design,
    rng: np.random.Generator,
    plan: np.random.Generator,
    form: _Form,
    who: Person | None,
) -> None:
    """Add chip, hologram, signature and whatever the template keeps at the foot."""
    ink = design.scheme.ink
    if chance(plan, 0.25):
        chip(canvas, (form.right - 0.12, 0.26, form.right, 0.41), rng)
    if chance(plan, 0.5):
        x, y = plan.uniform(0.3, 0.75), plan.uniform(0.3, 0.55)
        hologram(canvas, (x, y, x + 0.13, y + 0.2), rng)
    if who is not None:
        low = form.photo[3] - 0.13 if form.foot else 0.83
        start = form.photo[0] if low > 0.82 else form.right - 0.26
        signature(canvas, (start, low, start + 0.25, low + 0.12), rng, (*ink, 220))
    elif chance(rng, 0.5):
        canvas.text(
            (0.5, 0.6),
            pick(rng, ("SPECIMEN", "SAMPLE", "VOID", "MUSTER")),
            design.faces.bold,
            0.19,
            (190, 30, 40, 150),
            anchor="mm",
        )
    if form.foot == "mrz":
        canvas.fill((0, 0.8, 1, 1), mix(design.scheme.ground, (255, 255, 255), 0.55))
        lines = machine_lines(rng, who, "I", 2, 36) if who else []
        for row, line in enumerate(lines):
            canvas.text((0.04, 0.88 + 0.08 * row), line, design.faces.mono, 0.075, (20, 20, 24), room=0.92)
    elif form.foot == "code":
        barcode(canvas, (0.3, 0.84, 0.94, 0.96), rng)
    elif form.foot == "classes":
        for column, letter in enumerate(("AM", "A", "B", "C", "D", "BE", "T")):
            x = 0.08 + 0.12 * column
            canvas.frame((x, 0.85, x + 0.1, 0.96), design.scheme.faint)
            canvas.text((x + 0.05, 0.905), letter, design.faces.bold, 0.06, ink, anchor="mm")


def _id_back(design: Design, rng: np.random.Generator, plan: np.random.Generator) -> Artwork:
    """Draw the back of an identity card: address, code and three machine readable lines."""
    canvas, pattern = design.card(rng, plan, CARD)
    who = person(rng, design.faces.script)
    ink, faces = design.scheme.ink, design.faces
    for row, value in enumerate((words(rng, 2).title(), who.place, who.issued, who.number)):
        canvas.text(
            (0.36, 0.12 + 0.13 * row), pick(plan, ("Address", "Authority", "Height", "No.")), faces.body, 0.036, ink
        )
        canvas.text((0.36, 0.19 + 0.13 * row), value, faces.bold, 0.065, ink, room=0.4)
    chip(canvas, (0.08, 0.12, 0.24, 0.32), rng)
    matrix_code(canvas, (0.08, 0.36, 0.28, 0.62), rng)
    signature(canvas, (0.72, 0.36, 0.96, 0.56), rng, ink)
    canvas.fill((0, 0.66, 1, 1), mix(design.scheme.ground, (255, 255, 255), 0.6))
    for row, line in enumerate(machine_lines(rng, who, "ID", 3, 30)):
        canvas.text((0.05, 0.77 + 0.09 * row), line, faces.mono, 0.08, (20, 20, 24), room=0.9)
    return design.done(
        canvas, radius=RADIUS, number=(0.04, 0.68, 0.96, 0.98), pattern=pattern, header="back", foot="mrz"
    )
