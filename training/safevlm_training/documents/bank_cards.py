"""Payment cards of invented banks."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .card_form import RADIUS, card_form, draw_card
from .design import Design
from .ornaments import signature
from .people import card_number, person
from .streams import chance, pick
from .text import digits, words
from .values import Artwork

BANKS = ("bank", "credit union", "finance", "savings", "pay", "trust", "money")
GRADES = ("DEBIT", "CREDIT", "PLATINUM", "GOLD", "BUSINESS", "PREPAID", "WORLD", "CLASSIC")


def bank_card(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a payment card: flat or embossed, upright or lying, front or back."""
    plan = design.plan()
    at = card_form(plan)
    canvas, pattern = draw_card(design, rng, plan, at, pick(rng, BANKS))
    ink, faces = design.scheme.ink, design.faces
    number, who = card_number(rng), person(rng, "latin")
    write = canvas.embossed if at.raised else canvas.text
    groups, across = number.split(), 4 // at.rows
    per = canvas.unit / canvas.height
    for row in range(at.rows):
        line = " ".join(groups[row * across : (row + 1) * across])
        y = at.number[1] + row * 1.35 * at.number_size * per
        write((at.number[0], y), line, faces.mono, at.number_size, ink, room=at.room)
    write(at.holder, " ".join(who.latin), faces.mono if at.raised else faces.body, 0.07, ink, room=0.5)
    until = f"{int(rng.integers(1, 13)):02d}/{int(rng.integers(26, 34))}"
    write(at.until, until, faces.mono, 0.065, ink)
    if at.side == "back":
        _signed(design, rng, canvas)
    elif at.side == "front":
        label = pick(plan, ("VALID THRU", "GOOD THRU", "EXPIRES"))
        canvas.text((at.number[0], at.until[1] - 0.01), label, faces.body, 0.035, ink)
        if chance(plan, 0.6):
            canvas.text((0.07, 0.26), pick(rng, GRADES), faces.body, 0.05, ink)
    return design.done(canvas, radius=RADIUS, number=at.number_box, pattern=pattern, number_text=number, side=at.side)


def _signed(design: Design, rng: np.random.Generator, canvas: Canvas) -> None:
    """Sign the back and print the three digits and small print."""
    canvas.fill((0.06, 0.36, 0.66, 0.5), (244, 243, 236))
    signature(canvas, (0.09, 0.36, 0.5, 0.5), rng, (30, 40, 110))
    canvas.text((0.7, 0.46), digits(rng, 3), design.faces.mono, 0.08, design.scheme.ink)
    canvas.text((0.07, 0.94), words(rng, 9), design.faces.body, 0.035, design.scheme.ink, room=0.5)
