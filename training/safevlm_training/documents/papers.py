"""Printed matter without anything private: covers, slides, receipts, posters, captions, forms, pages."""

from __future__ import annotations

import numpy as np

from .design import Design, blank
from .ornaments import barcode, emblem, flag, logo, matrix_code
from .palette import ink_on, mix
from .portraits import portrait
from .scenes import SCENES, draw_scene
from .streams import chance, pick
from .text import digits, in_script, name, word, words
from .values import Artwork, Colour

INK: Colour = (28, 28, 32)
FIELDS = (
    "Surname",
    "First name",
    "Date of birth",
    "Address",
    "Signature",
    "Place",
    "Telephone",
    "Number",
    "Nationality",
    "Remarks",
)


def _paper(rng: np.random.Generator) -> Colour:
    return mix((252, 252, 250), (236, 226, 200), rng.uniform(0, 1) ** 2)


def book_cover(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw the cover of a book, perhaps with a library's label on it."""
    plan = design.plan()
    canvas, pattern = design.card(rng, plan, plan.uniform(0.62, 0.8))
    scheme, faces = design.scheme, design.faces
    subject = pick(plan, ("picture", "face", "emblem", "plain"))
    area = (0.12, plan.uniform(0.3, 0.38), 0.88, plan.uniform(0.7, 0.78))
    x0, y0, x1, y1 = canvas.box(area)
    if subject == "picture":
        canvas.paste(draw_scene(rng, pick(rng, SCENES), (x1 - x0, y1 - y0)), area)
    elif subject == "face":
        canvas.paste(portrait(rng, x1 - x0, y1 - y0), area)
    elif subject == "emblem":
        emblem(canvas, area, (scheme.accent, scheme.accent2), plan)
    title = in_script(f"{word(rng, 2)} {words(rng, 1)}".title(), faces.script)
    canvas.text((0.5, 0.17), title, faces.bold, 0.15, scheme.ink, anchor="ms", room=0.86)
    canvas.text((0.5, 0.25), words(rng, 4), faces.body, 0.05, scheme.ink, anchor="ms", room=0.8)
    canvas.text((0.5, 0.9), f"{name(rng)} {name(rng)}", faces.body, 0.075, scheme.ink, anchor="ms", room=0.8)
    if chance(rng, 0.4):
        barcode(canvas, (0.58, 0.84, 0.95, 0.94), rng)
    canvas.fill((0, 0, 0.03, 1), (0, 0, 0, 60))
    return design.done(canvas, pattern=pattern, subject=subject)


def slide(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a presentation slide: a title, bullets, a chart or a picture."""
    plan = design.plan()
    canvas, pattern = design.card(rng, plan, float(plan.choice([16 / 9, 4 / 3])))
    scheme, faces = design.scheme, design.faces
    bar = chance(plan, 0.5)
    if bar:
        canvas.fill((0, 0, 1, 0.2), scheme.accent)
    canvas.text(
        (0.06, 0.15),
        in_script(words(rng, 3).capitalize(), faces.script),
        faces.bold,
        0.1,
        ink_on(scheme.accent) if bar else scheme.ink,
        room=0.85,
    )
    on_left = chance(plan, 0.6)
    left, area = (0.07, (0.58, 0.3, 0.94, 0.85)) if on_left else (0.5, (0.06, 0.3, 0.44, 0.85))
    for row in range(int(rng.integers(3, 7))):
        canvas.text(
            (left, 0.36 + 0.09 * row),
            f"- {words(rng, int(rng.integers(2, 6)))}",
            faces.body,
            0.055,
            scheme.ink,
            room=0.42,
        )
    x0, y0, x1, y1 = canvas.box(area)
    if chance(plan, 0.5):
        for step in range(5):
            top = y1 - (y1 - y0) * rng.uniform(0.2, 1)
            x = x0 + (x1 - x0) * step / 5
            canvas.draw.rectangle(
                [x, top, x + (x1 - x0) * 0.14, y1], fill=scheme.accent2 if step % 2 else scheme.accent
            )
    else:
        picture = (
            portrait(rng, x1 - x0, y1 - y0)
            if chance(rng, 0.4)
            else draw_scene(rng, pick(rng, SCENES), (x1 - x0, y1 - y0))
        )
        canvas.paste(picture, area)
    canvas.text((0.94, 0.95), str(int(rng.integers(1, 60))), faces.body, 0.04, scheme.ink, anchor="rs")
    return design.done(canvas, pattern=pattern)


def receipt(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a till receipt: goods, prices, a total, perhaps a code."""
    plan = design.plan()
    canvas = blank(design.sides(plan.uniform(0.36, 0.62)), _paper(rng))
    face = design.faces.mono if chance(plan, 0.7) else design.faces.body
    canvas.text(
        (0.5, 0.08),
        in_script(name(rng), design.faces.script).upper(),
        design.faces.bold,
        0.1,
        INK,
        anchor="ms",
        room=0.8,
    )
    canvas.text((0.5, 0.115), words(rng, 3), face, 0.05, INK, anchor="ms", room=0.8)
    step = plan.uniform(0.034, 0.048)
    rows = int(rng.integers(6, 14))
    for row in range(rows):
        y = 0.17 + step * row
        canvas.text((0.07, y), words(rng, 2), face, 0.052, INK, room=0.6)
        canvas.text((0.93, y), f"{rng.uniform(0.5, 80):.2f}", face, 0.052, INK, anchor="rs")
    y = 0.17 + step * rows
    canvas.fill((0.07, y - 0.02, 0.93, y - 0.017), INK)
    canvas.text((0.07, y + 0.03), "TOTAL", design.faces.bold, 0.075, INK)
    canvas.text((0.93, y + 0.03), f"{rng.uniform(20, 400):.2f}", design.faces.bold, 0.075, INK, anchor="rs")
    if chance(plan, 0.5):
        barcode(canvas, (0.15, 0.88, 0.85, 0.95), rng)
    elif chance(plan, 0.5):
        matrix_code(canvas, (0.33, 0.82, 0.67, 0.97), rng)
    return design.done(canvas)


def poster(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a poster or advertisement in large letters."""
    plan = design.plan()
    canvas, pattern = design.card(rng, plan, float(plan.choice([0.71, 0.71, 1.41, 1.0])))
    scheme, faces = design.scheme, design.faces
    if chance(plan, 0.6):
        area = (0.0, 0.3, 1.0, 0.72) if chance(plan, 0.5) else (0.2, 0.3, 0.8, 0.72)
        x0, y0, x1, y1 = canvas.box(area)
        picture = (
            portrait(rng, x1 - x0, y1 - y0)
            if chance(rng, 0.4)
            else draw_scene(rng, pick(rng, SCENES), (x1 - x0, y1 - y0))
        )
        canvas.paste(picture, area)
    else:
        logo(canvas, (0.25, 0.32, 0.75, 0.7), (scheme.accent, scheme.accent2), plan)
    canvas.text(
        (0.5, 0.17), in_script(word(rng, 3), faces.script).upper(), faces.bold, 0.2, scheme.ink, anchor="ms", room=0.9
    )
    canvas.text((0.5, 0.26), words(rng, 3), faces.body, 0.07, scheme.ink, anchor="ms", room=0.85)
    canvas.text(
        (0.5, 0.83),
        f"{int(rng.integers(1, 29))}.{int(rng.integers(1, 13))}.  {name(rng)}",
        faces.bold,
        0.11,
        scheme.ink,
        anchor="ms",
        room=0.9,
    )
    canvas.text((0.5, 0.93), words(rng, 6), faces.body, 0.05, scheme.ink, anchor="ms", room=0.85)
    return design.done(canvas, pattern=pattern)


def captioned_picture(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a picture with a caption above, below or across it."""
    plan = design.plan()
    width, height = design.sides(float(plan.choice([1.0, 1.33, 0.8, 1.5])))
    face = chance(rng, 0.35)
    picture = portrait(rng, width, height) if face else draw_scene(rng, pick(rng, SCENES), (width, height))
    canvas = blank((width, height), (250, 250, 250))
    canvas.image.paste(picture, (0, 0))
    place = pick(plan, ("above", "below", "both", "across"))
    text = in_script(words(rng, int(rng.integers(2, 6))), design.faces.script)
    white, black = (255, 255, 255), (0, 0, 0)
    paper, ink = (white, black) if chance(plan, 0.5) else (black, white)
    if place in ("above", "both"):
        canvas.fill((0, 0, 1, 0.17), paper)
        canvas.text((0.5, 0.085), text, design.faces.bold, 0.1, ink, anchor="mm", room=0.92)
    if place in ("below", "both"):
        canvas.fill((0, 0.84, 1, 1), paper)
        canvas.text((0.5, 0.92), words(rng, 4), design.faces.bold, 0.09, ink, anchor="mm", room=0.92)
    if place == "across":
        canvas.fill((0, 0.7, 1, 0.88), (*design.scheme.ground, 190))
        canvas.text((0.5, 0.79), text, design.faces.bold, 0.1, design.scheme.ink, anchor="mm", room=0.9)
    return design.done(canvas, place=place, subject="face" if face else "scene")


def blank_form(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw an official looking form that nobody has filled in; the photo box is empty."""
    plan = design.plan()
    canvas = blank(design.sides(float(plan.choice([0.707, 0.707, 1.414]))), _paper(rng))
    scheme, faces = design.scheme, design.faces
    ink = mix(scheme.accent, INK, 0.7)
    if chance(plan, 0.5):
        canvas.fill((0, 0, 1, 0.1), mix(scheme.accent, (255, 255, 255), 0.5))
    emblem(canvas, (0.06, 0.03, 0.18, 0.13), (scheme.accent, scheme.accent2), plan)
    if chance(plan, 0.3):
        flag(canvas, (0.8, 0.04, 0.94, 0.11), plan)
    canvas.text(
        (0.22, 0.08),
        pick(rng, ("APPLICATION FORM", "REGISTRATION", "REQUEST", "QUESTIONNAIRE")),
        faces.bold,
        0.065,
        ink,
        room=0.55,
    )
    photo = chance(plan, 0.6)
    if photo:
        canvas.frame((0.72, 0.17, 0.94, 0.36), ink)
        canvas.text((0.83, 0.265), "PHOTO", faces.body, 0.04, scheme.faint, anchor="mm")
    boxed = chance(plan, 0.5)
    for row in range(int(plan.integers(6, 10))):
        y = 0.2 + 0.08 * row
        right = 0.66 if photo and y < 0.38 else 0.94
        canvas.text((0.06, y), f"{row + 1}. {FIELDS[row]}", faces.body, 0.035, ink)
        if boxed:
            cells = int((right - 0.06) / 0.04)
            for cell in range(cells):
                canvas.frame((0.06 + 0.04 * cell, y + 0.012, 0.1 + 0.04 * cell, y + 0.048), scheme.faint, 0.002)
        else:
            canvas.fill((0.06, y + 0.045, right, y + 0.047), ink)
    return design.done(canvas, photo=str(photo).lower())


def text_page(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a printed page: a heading, columns of lines, perhaps a picture."""
    plan = design.plan()
    canvas = blank(design.sides(float(plan.choice([0.707, 0.75, 1.414]))), _paper(rng))
    columns = int(plan.integers(1, 4))
    canvas.text(
        (0.07, 0.1), in_script(words(rng, 3).title(), design.faces.script), design.faces.bold, 0.075, INK, room=0.86
    )
    room = 0.86 / columns
    area = (0.07, 0.18, 0.07 + room * 0.95, 0.42)
    picture = chance(plan, 0.5)
    if picture:
        x0, y0, x1, y1 = canvas.box(area)
        canvas.paste(draw_scene(rng, pick(rng, SCENES), (x1 - x0, y1 - y0)), area)
    size = plan.uniform(0.024, 0.036)
    step = size * canvas.unit / canvas.height * 1.5
    line = f"{words(rng, 16)} {digits(rng, 2)} {words(rng, 9)}"
    for column in range(columns):
        y = 0.46 if picture and column == 0 else 0.19
        while y < 0.93:
            start = int(rng.integers(0, 40))
            count = max(4, round(room * canvas.width / (size * canvas.unit * 0.53)))
            canvas.text(
                (0.07 + room * column, y), line[start : start + count], design.faces.body, size, INK, room=room * 0.95
            )
            y += step * (1 if chance(rng, 0.9) else 2)
    return design.done(canvas, columns=str(columns))
