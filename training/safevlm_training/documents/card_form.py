"""Where payment cards put things, and the parts that a card without an account has too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas
from .design import CARD, Design
from .ornaments import chip, contactless, hologram, logo
from .scripts import in_script
from .streams import chance
from .text import name
from .values import Box

RADIUS = 0.058


@dataclass(frozen=True, slots=True, kw_only=True)
class CardForm:
    """Where a template puts things; positions are fractions of the sides, text sizes of the shorter side.

    Attributes:
        side: "front", "upright" or "back".
        chip: The contact chip, or None.
        waves: The sign of contactless payment, or None.
        brand: Where the bank's name ends or begins, by `brand_anchor`.
        logo: The bank's sign.
        network: The sign of the payment network.
        number: Left end and baseline of the number.
        rows: Lines that the number is written in.
        number_size: Height of its digits.
        room: Greatest width of the number.
        holder: Left end and baseline of the holder's name.
        until: Left end and baseline of the last month.
        raised: Whether letters are embossed.
    """

    side: str
    chip: Box | None
    waves: Box | None
    brand: tuple[float, float]
    brand_anchor: str
    logo: Box
    network: Box
    number: tuple[float, float]
    rows: int
    number_size: float
    room: float
    holder: tuple[float, float]
    until: tuple[float, float]
    raised: bool

    @property
    def ratio(self) -> float:
        """Width over height."""
        return 1 / CARD if self.side == "upright" else CARD

    @property
    def number_box(self) -> Box:
        """The area of the number."""
        x, y = self.number
        scale = self.number_size * (1 / CARD if self.side == "upright" else 1.0)
        return (x - 0.02, y - scale, x + self.room, y + scale * (1.35 * (self.rows - 1) + 0.25))


def card_form(plan: np.random.Generator) -> CardForm:
    """Settle a template."""
    side = plan.random()
    if side < 0.15:
        return _back(plan)
    return _upright(plan) if side < 0.32 else _front(plan)


def _front(plan: np.random.Generator) -> CardForm:
    x, y = plan.uniform(0.06, 0.14), plan.uniform(0.28, 0.42)
    left, line = plan.uniform(0.06, 0.12), plan.uniform(0.6, 0.7)
    rows = 2 if chance(plan, 0.15) else 1
    size = plan.uniform(0.1, 0.13) if rows == 1 else plan.uniform(0.09, 0.11)
    size, room = (plan.uniform(0.07, 0.085), 0.5) if chance(plan, 0.2) else (size, 0.82 if rows == 1 else 0.5)
    mirrored = chance(plan, 0.5)
    holder = (left, line + plan.uniform(0.19, 0.24)) if rows == 1 else (left, 0.92)
    return CardForm(
        side="front",
        chip=(x, y, x + 0.13, y + 0.17) if chance(plan, 0.92) else None,
        waves=(x + 0.17, y + 0.02, x + 0.24, y + 0.15) if chance(plan, 0.7) else None,
        brand=(0.83, 0.185) if mirrored else (0.17, 0.185),
        brand_anchor="rs" if mirrored else "ls",
        logo=(0.85, 0.07, 0.94, 0.21) if mirrored else (0.06, 0.07, 0.15, 0.21),
        network=(0.8, 0.76, 0.94, 0.94) if chance(plan, 0.85) else (0.8, 0.3, 0.94, 0.48),
        number=(left, line),
        rows=rows,
        number_size=size,
        room=room,
        holder=holder,
        until=(left + plan.uniform(0.1, 0.42), line + 0.11) if rows == 1 else (left + 0.48, 0.92),
        raised=chance(plan, 0.45),
    )


def _upright(plan: np.random.Generator) -> CardForm:
    left, top = plan.uniform(0.34, 0.46), plan.uniform(0.44, 0.54)
    centred = chance(plan, 0.6)
    rows, size = 4 if chance(plan, 0.7) else 2, plan.uniform(0.1, 0.14)
    below = top + rows * 1.35 * size / CARD
    return CardForm(
        side="upright",
        chip=(left, 0.12, left + 0.21, 0.22) if centred else (0.1, 0.28, 0.31, 0.38),
        waves=(0.7, 0.3, 0.82, 0.38) if chance(plan, 0.5) else None,
        brand=(0.92, 0.1 if not centred else 0.08),
        brand_anchor="rs",
        logo=(0.08, 0.05, 0.2, 0.12),
        network=(0.66, 0.84, 0.92, 0.96),
        number=(0.1, top),
        rows=rows,
        number_size=size,
        room=0.8,
        holder=(0.1, below + plan.uniform(0.0, 0.04)),
        until=(0.64, top - 0.005) if rows == 4 else (0.1, below + 0.08),
        raised=chance(plan, 0.2),
    )


def _back(plan: np.random.Generator) -> CardForm:
    low = plan.uniform(0.66, 0.74)
    return CardForm(
        side="back",
        chip=None,
        waves=None,
        brand=(0.93, 0.94),
        brand_anchor="rs",
        logo=(0.84, 0.36, 0.95, 0.52),
        network=(0.84, 0.36, 0.95, 0.52),
        number=(0.07, low),
        rows=1,
        number_size=plan.uniform(0.09, 0.12),
        room=0.8,
        holder=(0.07, low + 0.11),
        until=(0.65, low + 0.11),
        raised=False,
    )


def draw_card(
    design: Design, rng: np.random.Generator, plan: np.random.Generator, at: CardForm, trade: str
) -> tuple[Canvas, str]:
    """Draw everything of a card that belongs to no account; also name the pattern."""
    canvas, pattern = design.card(rng, plan, at.ratio)
    ink, colours = design.scheme.ink, (design.scheme.accent, design.scheme.accent2)
    title = in_script(f"{name(rng)} {trade}", design.faces.script)
    if at.side == "back":
        canvas.fill((0, 0.09, 1, 0.29), (22, 20, 22))
        hologram(canvas, at.network, rng)
        canvas.text(at.brand, title, design.faces.body, 0.04, ink, anchor="rs", room=0.4)
        return canvas, pattern
    if at.chip is not None:
        chip(canvas, at.chip, rng)
    if at.waves is not None:
        contactless(canvas, at.waves, ink)
    logo(canvas, at.logo, colours, plan)
    room = 0.55 if at.side == "front" else 0.62
    canvas.text(at.brand, title, design.faces.bold, 0.1, ink, anchor=at.brand_anchor, room=room)
    if chance(plan, 0.3):
        canvas.fill(at.network, (240, 240, 236), 0.02)
    logo(canvas, at.network, colours[::-1], plan)
    return canvas, pattern
