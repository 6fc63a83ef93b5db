"""Cards of shops, clubs, hotels and transport: like payment cards, but without an account."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .card_form import RADIUS, card_form, draw_card
from .design import CARD, Design
from .ornaments import barcode, logo, matrix_code
from .scripts import in_script
from .streams import chance, pick
from .text import digits, name, words
from .values import Artwork

CLUBS = (
    "COFFEE CLUB", "BONUS CARD", "GIFT CARD", "REWARDS", "LIBRARY CARD", "FITNESS PASS", "CINEMA CARD", "SHOP & SAVE",
    "DAY TICKET",
)  # fmt: skip
KEYS = (
    "ROOM KEY", "TRANSIT", "SAMPLE CARD", "PARKING", "VISITOR", "CITY PASS", "POOL", "LAUNDRY", "LOCKER", "CAR WASH",
    "FUEL", "EV CHARGING",
)  # fmt: skip
TRADES = ("hotel", "transit", "metro", "campus", "parking", "energy", "resort", "spa")


def plain_chip_card(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a hotel key, transit or sample card on a payment card's template: nobody's name, no number."""
    plan = design.plan()
    at = card_form(plan)
    canvas, pattern = draw_card(design, rng, plan, at, pick(rng, TRADES))
    ink, script = design.scheme.ink, design.faces.script
    size = at.number_size * rng.uniform(0.9, 1.3)
    if chance(rng, 0.85):
        canvas.text(at.number, pick(rng, KEYS), design.faces.bold, size, ink, room=at.room)
    if chance(rng, 0.6):
        small = in_script(words(rng, int(rng.integers(2, 6))), script)
        canvas.text(at.holder, small, design.faces.body, 0.055, ink, room=0.6)
    if at.side == "back":
        if chance(rng, 0.5):
            canvas.fill((0.06, 0.36, 0.66, 0.5), (244, 243, 236))
        for row in range(int(rng.integers(0, 3))):
            canvas.text((0.07, 0.86 + 0.05 * row), words(rng, 8), design.faces.body, 0.04, ink, room=0.5)
    return design.done(canvas, radius=RADIUS, pattern=pattern, side=at.side)


def loyalty_card(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a loyalty, gift or membership card: brand, stamps or a bar code, no person and no card number."""
    plan = design.plan()
    upright = chance(plan, 0.2)
    canvas, pattern = design.card(rng, plan, 1 / CARD if upright else CARD)
    brand = in_script(f"{name(rng)} {name(rng)}" if chance(rng, 0.4) else name(rng), design.faces.script)
    colours, ink = (design.scheme.accent, design.scheme.accent2), design.scheme.ink
    style = pick(plan, ("stamps", "code", "big", "stripe", "matrix"))
    if style == "stripe" and chance(plan, 0.5):
        canvas.fill((0, 0.09, 1, 0.27), (22, 20, 22))
        canvas.text((0.5, 0.42), brand, design.faces.bold, 0.1, ink, anchor="ms", room=0.8)
        canvas.fill((0.06, 0.5, 0.6, 0.63), (244, 243, 236))
        for row in range(3):
            canvas.text((0.07, 0.76 + 0.07 * row), words(rng, 8), design.faces.body, 0.04, ink, room=0.85)
        return design.done(canvas, radius=RADIUS, pattern=pattern, style="stripe")
    spot = plan.uniform(0.06, 0.7)
    logo(canvas, (spot, 0.07, spot + 0.22, 0.33), colours, plan)
    canvas.text((0.5, 0.48), brand, design.faces.bold, 0.17, ink, anchor="ms", room=0.86)
    canvas.text((0.5, 0.58), pick(rng, CLUBS), design.faces.body, 0.06, ink, anchor="ms", room=0.8)
    if style == "stamps":
        _stamps(canvas, design, rng, plan)
    elif style == "code":
        barcode(canvas, (0.14, 0.68, 0.86, 0.9), rng)
        canvas.text((0.5, 0.97), digits(rng, int(rng.integers(8, 13))), design.faces.mono, 0.05, ink, anchor="ms")
    elif style == "matrix":
        matrix_code(canvas, (0.62, 0.62, 0.9, 0.94), rng)
        canvas.text((0.08, 0.86), words(rng, 3), design.faces.body, 0.06, ink, room=0.45)
    else:
        canvas.text(
            (0.5, 0.84),
            pick(rng, ("50", "25", "10 %", "100", "1 + 1", "VIP")),
            design.faces.bold,
            0.26,
            ink,
            anchor="ms",
        )
    return design.done(canvas, radius=RADIUS, pattern=pattern, style=style)


def _stamps(canvas: Canvas, design: Design, rng: np.random.Generator, plan: np.random.Generator) -> None:
    across = int(plan.integers(4, 6))
    filled = int(rng.integers(0, across * 2))
    reach = canvas.unit * 0.065
    for spot in range(across * 2):
        x = canvas.width * (spot % across + 1) / (across + 1)
        y = canvas.height * (0.71 + 0.17 * (spot // across))
        ring = [x - reach, y - reach, x + reach, y + reach]
        canvas.draw.ellipse(
            ring, outline=design.scheme.ink, width=max(1, canvas.unit // 150), fill=(*design.scheme.ground, 120)
        )
        if spot < filled:
            canvas.draw.regular_polygon((x, y, reach * 0.7), int(plan.integers(3, 7)), fill=design.scheme.accent2)
