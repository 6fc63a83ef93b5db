"""Printed matter without anything private: covers, posters, captioned pictures."""

from __future__ import annotations

import numpy as np

from .design import Design, blank
from .ornaments import barcode, emblem, logo
from .portraits import portrait
from .scenes import SCENES, draw_scene
from .scripts import in_script
from .streams import chance, pick
from .text import name, word, words
from .values import Artwork


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
