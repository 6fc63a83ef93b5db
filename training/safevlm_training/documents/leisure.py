"""Business, game and playing cards: card-shaped, sometimes with a face, never a private document."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .design import CARD, Design, blank
from .ornaments import emblem, flag, hologram, logo, matrix_code
from .palette import hsv, ink_on, mix
from .portraits import portrait
from .scenes import draw_scene
from .scripts import in_script
from .streams import chance, pick
from .text import digits, name, words
from .values import Artwork, Colour

TRADES = (
    "Florist",
    "Carpenter",
    "Architecture",
    "Bakery",
    "Consulting",
    "Bicycle repair",
    "Design studio",
    "Gardening",
    "Law office",
)


def business_card(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a business card: a firm, a trade, a telephone line."""
    plan = design.plan()
    ratio = (CARD, CARD, 1.75, 1 / CARD, 1.4)[int(plan.integers(5))]
    canvas, pattern = design.card(rng, plan, ratio)
    scheme, faces = design.scheme, design.faces
    ground = scheme.ground
    if chance(plan, 0.35):
        ground = mix(ground, (255, 255, 255), 0.85)
        canvas.fill((0, 0, 1, 1), ground)
    style = pick(plan, ("left", "right", "centre", "mark"))
    if chance(plan, 0.4):
        panels = {"left": (0.72, 0, 1, 1), "right": (0, 0, 0.28, 1), "centre": (0, 0.9, 1, 1), "mark": (0, 0, 1, 0.1)}
        canvas.fill(panels[style], scheme.accent)
    spot, high = plan.uniform(0.1, 0.72), plan.uniform(0.04, 0.12)
    wide = 0.4 if style == "mark" else plan.uniform(0.14, 0.24)
    at = (0.3, 0.2, 0.7, 0.75) if style == "mark" else (spot, high, spot + wide, high + 0.28)
    logo(canvas, at, (scheme.accent2, scheme.accent), plan)
    firm = in_script(f"{name(rng)} {name(rng)}", faces.script)
    ink = ink_on(ground)
    if style == "mark":
        canvas.text((0.5, 0.9), firm, faces.bold, 0.1, ink, anchor="ms", room=0.8)
    else:
        _contact(canvas, design, rng, plan, (style, firm, ink))
    return design.done(canvas, radius=(0.0, 0.0, 0.05)[int(plan.integers(3))], pattern=pattern, style=style)


def _contact(
    canvas: Canvas,
    design: Design,
    rng: np.random.Generator,
    plan: np.random.Generator,
    about: tuple[str, str, Colour],
) -> None:
    """Write a firm's name, trade and ways to reach it on one side of a card."""
    style, firm, ink = about
    faces = design.faces
    x, anchor = {"left": (0.08, "ls"), "right": (0.92, "rs"), "centre": (0.5, "ms")}[style]
    top = plan.uniform(0.44, 0.56)
    canvas.text((x, top), firm, faces.bold, plan.uniform(0.09, 0.14), ink, anchor=anchor, room=0.62)
    trade = pick(rng, TRADES)
    trade = in_script(trade, faces.script) if chance(rng, 0.5) else trade
    canvas.text((x, top + 0.09), trade, faces.body, 0.06, ink, anchor=anchor, room=0.6)
    site = name(rng).lower()
    lines = (
        f"+00 {digits(rng, 3)} {digits(rng, 4)}",
        f"hello@{site}.example",
        f"www.{site}.example",
        in_script(words(rng, 3).title(), faces.script),
    )
    size = plan.uniform(0.046, 0.064)
    for row, line in enumerate(lines[: int(plan.integers(1, 5))]):
        canvas.text((x, top + 0.21 + 0.075 * row), line, faces.body, size, ink, anchor=anchor, room=0.6)
    if chance(plan, 0.35) and style == "left":
        matrix_code(canvas, (0.72, 0.6, 0.92, 0.92), rng)


def game_card(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a trading or game card: a creature, a landscape or a player's portrait with points."""
    plan = design.plan()
    lying = chance(plan, 0.25)
    canvas, pattern = design.card(rng, plan, CARD if lying else 0.716)
    scheme, faces = design.scheme, design.faces
    canvas.frame((0.015, 0.01, 0.985, 0.99), scheme.accent, 0.03)
    frame = (0.06, 0.18, 0.46, 0.9) if lying else (0.09, 0.13, 0.91, 0.54)
    x0, y0, x1, y1 = canvas.box(frame)
    topic = pick(rng, ("creature", "scene", "player"))
    if topic == "player":
        canvas.paste(portrait(rng, x1 - x0, y1 - y0), frame)
    else:
        canvas.paste(draw_scene(rng, pick(rng, ("hills", "sea", "bokeh")), (x1 - x0, y1 - y0)), frame)
    if topic == "creature":
        _creature(canvas, (x0 + x1) / 2, (y0 + y1) / 2, min(x1 - x0, y1 - y0) * 0.36, rng)
    canvas.frame(frame, scheme.accent2, 0.012)
    canvas.text(
        (0.08, 0.14 if lying else 0.095), in_script(name(rng), faces.script), faces.bold, 0.09, scheme.ink, room=0.55
    )
    canvas.text(
        (0.92, 0.14 if lying else 0.095),
        str(int(rng.integers(1, 30)) * 10),
        faces.bold,
        0.09,
        scheme.accent2,
        anchor="rs",
    )
    left, top, step = (0.5, 0.3, 0.12) if lying else (0.1, 0.63, 0.062)
    for row in range(int(plan.integers(3, 6))):
        y = top + step * row
        canvas.text(
            (left, y),
            words(rng, int(rng.integers(2, 6))),
            faces.body,
            0.045,
            scheme.ink,
            room=0.32 if lying else 0.62,
        )
        for star in range(int(rng.integers(1, 5))):
            spot = ((0.92 - 0.035 * star) * canvas.width, (y - 0.012) * canvas.height, canvas.unit * 0.017)
            canvas.draw.regular_polygon(spot, 5, fill=scheme.accent)
    if chance(plan, 0.3):
        hologram(canvas, (0.8, 0.84, 0.93, 0.94), rng)
    return design.done(canvas, radius=0.05, pattern=pattern, topic=topic)


def _creature(canvas: Canvas, x: float, y: float, reach: float, rng: np.random.Generator) -> None:
    skin, pen = hsv(rng.random(), rng.uniform(0.4, 0.9), rng.uniform(0.4, 0.95)), canvas.draw
    dark = mix(skin, (20, 20, 30), 0.5)
    for side in (-1, 1):
        pen.polygon(
            [
                (x + side * reach * 0.3, y - reach * 0.6),
                (x + side * reach, y - reach * 1.2),
                (x + side * reach * 0.8, y),
            ],
            fill=dark,
        )
    wide, high = reach * rng.uniform(0.7, 1.1), reach * rng.uniform(0.7, 1.1)
    pen.ellipse([x - wide, y - high, x + wide, y + high], fill=skin)
    eyes = int(rng.integers(1, 4))
    for eye in range(eyes):
        ex, r = x + (eye - (eyes - 1) / 2) * reach * 0.5, reach * 0.2
        pen.ellipse([ex - r, y - reach * 0.4 - r, ex + r, y - reach * 0.4 + r], fill=(250, 250, 240))
        pen.ellipse([ex - r / 2, y - reach * 0.4 - r / 2, ex + r / 2, y - reach * 0.4 + r / 2], fill=(10, 10, 20))
    pen.chord([x - reach * 0.5, y - reach * 0.1, x + reach * 0.5, y + reach * 0.6], 10, 170, fill=(40, 10, 20))
    for tooth in range(4):
        tx = x + (tooth - 1.5) * reach * 0.2
        pen.polygon(
            [(tx - reach * 0.08, y + reach * 0.3), (tx + reach * 0.08, y + reach * 0.3), (tx, y + reach * 0.44)],
            fill=(250, 250, 245),
        )


def playing_card(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a playing card: pips, or a mirrored court figure."""
    plan = design.plan()
    pale = mix(design.scheme.ground, (255, 255, 255), 0.8)
    canvas = blank(design.sides(plan.uniform(0.62, 0.74)), pale if chance(rng, 0.85) else design.scheme.ground)
    colour = (190, 24, 36) if chance(rng, 0.5) else (20, 20, 28)
    inset = plan.uniform(0.14, 0.22)
    if chance(plan, 0.4):
        canvas.frame((inset / 3, inset / 4, 1 - inset / 3, 1 - inset / 4), design.scheme.accent, 0.008)
    court = chance(plan, 0.4)
    pips = int(rng.integers(1, 11))
    if court:
        x0, y0, x1, _ = canvas.box((inset, 0.12, 1 - inset, 0.5))
        figure = portrait(rng, x1 - x0, canvas.height // 2 - y0)
        canvas.image.paste(figure, (x0, y0))
        canvas.image.paste(figure.rotate(180), (x0, canvas.height // 2))
        canvas.frame((inset, 0.12, 1 - inset, 0.88), colour, 0.008)
    else:
        _pips(canvas, plan, pips, colour)
    corner = pick(rng, ("K", "Q", "J")) if court else str(pips)
    edge, size = inset / 2, plan.uniform(0.09, 0.15)
    for x, y in ((edge, 0.1), (1 - edge, 0.96)) if chance(plan, 0.7) else ((edge, 0.1), (1 - edge, 0.1)):
        canvas.text((x, y), corner, design.faces.bold, size, colour, anchor="ms")
    return design.done(canvas, radius=0.06, court=str(court).lower())


def _pips(canvas: Canvas, plan: np.random.Generator, count: int, colour: Colour) -> None:
    sides, columns, reach = int(plan.integers(3, 7)), int(plan.integers(2, 4)), plan.uniform(0.06, 0.1)
    rows = -(-count // columns)
    for pip in range(count):
        row, column = divmod(pip, columns)
        x, y = canvas.width * (column + 1) / (columns + 1), canvas.height * (0.15 + 0.7 * (row + 0.5) / rows)
        spot = (x, y, canvas.unit * reach)
        canvas.draw.regular_polygon(spot, sides, rotation=180 * (pip % 2), fill=colour)


def team_card(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a postcard-like card of a team, choir or festival: faces, a flag or emblem, a big title."""
    plan = design.plan()
    canvas, pattern = design.card(rng, plan, float(plan.choice([CARD, 1.42, 1.5])))
    people = int(plan.integers(2, 7))
    for person_ in range(people):
        left = 0.05 + 0.9 * person_ / people
        area = (left, 0.3, left + 0.9 / people - 0.01, 0.75)
        x0, y0, x1, y1 = canvas.box(area)
        canvas.paste(portrait(rng, x1 - x0, y1 - y0), area)
    title = in_script(f"{name(rng)} {name(rng)}", design.faces.script)
    canvas.text((0.5, 0.22), title.upper(), design.faces.bold, 0.14, design.scheme.ink, anchor="ms", room=0.64)
    canvas.text((0.5, 0.9), words(rng, 5), design.faces.body, 0.075, design.scheme.ink, anchor="ms", room=0.8)
    colours = (design.scheme.accent, design.scheme.accent2)
    if chance(plan, 0.5):
        emblem(canvas, (0.03, 0.04, 0.15, 0.25), colours, plan)
    if chance(plan, 0.5):
        flag(canvas, (0.84, 0.06, 0.96, 0.19), plan)
    return design.done(canvas, radius=float(plan.choice([0.0, 0.05])), pattern=pattern)
