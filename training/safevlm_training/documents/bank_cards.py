"""Payment cards of invented banks, and the cards without a number that look like them."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .design import CARD, Design
from .ornaments import barcode, chip, contactless, hologram, logo, matrix_code, signature
from .people import card_number, person
from .streams import chance, pick
from .text import digits, in_script, name, words
from .values import Artwork

RADIUS = 0.058
BANKS = ("bank", "credit union", "finance", "savings", "pay", "trust", "money")
GRADES = ("DEBIT", "CREDIT", "PLATINUM", "GOLD", "BUSINESS", "PREPAID", "WORLD", "CLASSIC")
CLUBS = (
    "COFFEE CLUB",
    "BONUS CARD",
    "GIFT CARD",
    "REWARDS",
    "LIBRARY CARD",
    "FITNESS PASS",
    "CINEMA CARD",
    "SHOP & SAVE",
    "DAY TICKET",
)


def bank_card(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a payment card: flat or embossed, upright or lying, front or back."""
    plan = design.plan()
    side = plan.random()
    if side < 0.15:
        return _bank_back(design, rng, plan)
    if side < 0.32:
        return _bank_upright(design, rng, plan)
    canvas, pattern = design.card(rng, plan, CARD)
    ink, faces = design.scheme.ink, design.faces
    number, who = card_number(rng), person(rng, "latin")
    chip_left, chip_top = plan.uniform(0.07, 0.13), plan.uniform(0.3, 0.4)
    chip(canvas, (chip_left, chip_top, chip_left + 0.13, chip_top + 0.17), rng)
    if chance(plan, 0.7):
        contactless(canvas, (chip_left + 0.17, chip_top + 0.02, chip_left + 0.24, chip_top + 0.15), ink)
    _brand(canvas, design, rng, plan)
    _network(canvas, design, plan)
    line = plan.uniform(0.62, 0.7)
    left = plan.uniform(0.07, 0.11)
    raised = chance(plan, 0.5)
    small = chance(plan, 0.25)
    face, size, room = faces.mono, 0.075 if small else 0.12, 0.5 if small else 0.82
    write = canvas.embossed if raised else canvas.text
    write((left, line), number, face, size, ink, room=room)
    write(
        (left, line + 0.22),
        f"{who.latin[0]} {who.latin[1]}",
        faces.mono if raised else faces.body,
        0.07,
        ink,
        room=0.5,
    )
    until = f"{int(rng.integers(1, 13)):02d}/{int(rng.integers(26, 34))}"
    write((left + plan.uniform(0.1, 0.45), line + 0.11), until, face, 0.065, ink)
    canvas.text((left, line + 0.1), pick(plan, ("VALID THRU", "GOOD THRU", "EXPIRES")), faces.body, 0.035, ink)
    box = (left, line - 0.12, left + room, line + 0.02)
    return design.done(canvas, radius=RADIUS, number=box, pattern=pattern, number_text=number, side="front")


def _bank_upright(design: Design, rng: np.random.Generator, plan: np.random.Generator) -> Artwork:
    canvas, pattern = design.card(rng, plan, 1 / CARD)
    ink, faces = design.scheme.ink, design.faces
    number, who = card_number(rng), person(rng, "latin")
    left = plan.uniform(0.36, 0.44)
    chip(canvas, (left, 0.12, left + 0.21, 0.22) if chance(plan, 0.6) else (0.1, 0.3, 0.31, 0.4), rng)
    logo(canvas, (0.08, 0.05, 0.2, 0.12), (design.scheme.accent, design.scheme.accent2), plan)
    canvas.text((0.92, 0.1), f"{name(rng)} {pick(plan, BANKS)}", faces.bold, 0.075, ink, anchor="rs", room=0.45)
    top = plan.uniform(0.5, 0.62)
    for row, group in enumerate(number.split()):
        canvas.text((0.1, top + 0.065 * row), group, faces.mono, 0.12, ink)
    canvas.text((0.1, top + 0.3), f"{who.latin[0]} {who.latin[1]}", faces.body, 0.065, ink, room=0.6)
    canvas.text((0.62, top), f"{int(rng.integers(1, 13)):02d}/{int(rng.integers(26, 34))}", faces.mono, 0.07, ink)
    box = (0.08, top - 0.06, 0.55, top + 0.21)
    return design.done(canvas, radius=RADIUS, number=box, pattern=pattern, number_text=number, side="upright")


def _bank_back(design: Design, rng: np.random.Generator, plan: np.random.Generator) -> Artwork:
    canvas, pattern = design.card(rng, plan, CARD)
    ink, faces = design.scheme.ink, design.faces
    number, who = card_number(rng), person(rng, "latin")
    canvas.fill((0, 0.09, 1, 0.29), (22, 20, 22))
    low = plan.uniform(0.36, 0.42)
    canvas.fill((0.06, low, 0.66, low + 0.14), (244, 243, 236))
    signature(canvas, (0.09, low, 0.5, low + 0.14), rng, (30, 40, 110))
    canvas.text((0.7, low + 0.1), digits(rng, 3), faces.mono, 0.08, ink)
    canvas.text((0.07, 0.7), number, faces.mono, 0.11, ink, room=0.8)
    canvas.text((0.07, 0.81), f"{who.latin[0]} {who.latin[1]}", faces.body, 0.06, ink, room=0.5)
    canvas.text((0.65, 0.81), f"{int(rng.integers(1, 13)):02d}/{int(rng.integers(26, 34))}", faces.mono, 0.06, ink)
    canvas.text((0.07, 0.93), words(rng, 9), faces.body, 0.035, ink, room=0.8)
    hologram(canvas, (0.84, 0.36, 0.95, 0.52), rng)
    box = (0.06, 0.6, 0.88, 0.73)
    return design.done(canvas, radius=RADIUS, number=box, pattern=pattern, number_text=number, side="back")


def _brand(canvas: Canvas, design: Design, rng: np.random.Generator, plan: np.random.Generator) -> None:
    colours = (design.scheme.accent, design.scheme.accent2)
    title = f"{name(rng)} {pick(plan, BANKS)}"
    if chance(plan, 0.5):
        logo(canvas, (0.06, 0.07, 0.15, 0.21), colours, plan)
        canvas.text((0.17, 0.185), title, design.faces.bold, 0.1, design.scheme.ink, room=0.5)
    else:
        logo(canvas, (0.85, 0.07, 0.94, 0.21), colours, plan)
        canvas.text((0.83, 0.185), title, design.faces.bold, 0.1, design.scheme.ink, anchor="rs", room=0.55)
    if chance(plan, 0.6):
        canvas.text((0.07, 0.26), pick(rng, GRADES), design.faces.body, 0.05, design.scheme.ink)


def _network(canvas: Canvas, design: Design, plan: np.random.Generator) -> None:
    """Draw the sign of an invented payment network in the lower right corner."""
    area = (0.8, 0.76, 0.94, 0.94)
    if chance(plan, 0.3):
        canvas.fill(area, (240, 240, 236), 0.02)
    logo(canvas, area, (design.scheme.accent2, design.scheme.accent), plan)


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


def plain_chip_card(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a hotel key, transit or specimen card: it may carry a chip, but nobody's name or number."""
    plan = design.plan()
    canvas, pattern = design.card(rng, plan, CARD)
    ink = design.scheme.ink
    if chance(plan, 0.4):
        chip(canvas, (0.09, 0.36, 0.22, 0.53), rng)
    if chance(plan, 0.5):
        contactless(canvas, (0.3, 0.38, 0.37, 0.51), ink)
    _brand(canvas, design, rng, plan)
    if chance(plan, 0.5):
        _network(canvas, design, plan)
    title = pick(rng, ("ROOM KEY", "TRANSIT", "SAMPLE CARD", "PARKING", "VISITOR", "CITY PASS", "POOL", "LAUNDRY"))
    canvas.text((0.08, 0.74), title, design.faces.bold, 0.13, ink, room=0.65)
    canvas.text((0.08, 0.88), words(rng, 5), design.faces.body, 0.05, ink, room=0.6)
    return design.done(canvas, radius=RADIUS, pattern=pattern)
