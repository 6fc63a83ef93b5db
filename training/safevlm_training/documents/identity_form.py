"""Where identity cards and driving licences put things, and the parts that hold no person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas
from .design import CARD, Design
from .ornaments import barcode, chip, emblem, flag, hologram
from .palette import ink_on
from .streams import chance, pick
from .values import Box

RADIUS = 0.058
ID_TITLES = (
    "IDENTITY CARD", "NATIONAL IDENTITY CARD", "CARTE D'IDENTITE", "RESIDENCE PERMIT", "CITIZEN CARD",
    "TARJETA DE IDENTIDAD", "PERSONALKARTE", "STUDENT IDENTITY", "HEALTH CARD",
)  # fmt: skip
LICENCE_TITLES = (
    "DRIVING LICENCE", "DRIVER LICENSE", "PERMIS DE CONDUIRE", "PERMISO DE CONDUCIR", "PATENTE DI GUIDA",
    "OPERATOR LICENSE",
)  # fmt: skip
HEADERS = ("bar", "plain", "flag", "centre", "band", "low")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Where a template puts things; positions are fractions of the sides, text sizes of the shorter side.

    Attributes:
        photo: The portrait.
        left: Where the fields begin.
        right: Where they end.
        top: Their upper edge.
        step: Height of one field.
        low: Where the last field must end.
        header: One of `HEADERS`.
        columns: Fields beside each other.
        numbered: Whether fields carry numbers instead of labels.
        beside: Whether a label stands beside its value rather than above.
        size: Height of the values' letters.
        foot: What lies below the fields: "", "mrz", "code" or "classes".
        upright: Whether the card stands on its short side.
    """

    photo: Box
    left: float
    right: float
    top: float
    step: float
    low: float
    header: str
    columns: int
    numbered: bool
    beside: bool
    size: float
    foot: str
    upright: bool

    @property
    def ratio(self) -> float:
        """Width over height."""
        return 1 / CARD if self.upright else CARD


def form(plan: np.random.Generator, numbered: bool) -> Form:
    """Settle a template."""
    header = pick(plan, HEADERS)
    foot = "" if header == "low" else pick(plan, ("", "mrz", "code", "", "classes" if numbered else "mrz"))
    low = 0.8 if foot or header == "low" else 0.95
    return _upright(plan, numbered, header, foot, low) if chance(plan, 0.14) else _lying(
        plan, numbered, header, foot, low
    )  # fmt: skip


def _lying(plan: np.random.Generator, numbered: bool, header: str, foot: str, low: float) -> Form:
    top = plan.uniform(0.05, 0.12) if header == "low" else plan.uniform(0.21, 0.29)
    high = min(plan.uniform(0.42, 0.66), low - 0.02 - top)
    wide = high * plan.uniform(0.42, 0.56)
    edge = plan.uniform(0.03, 0.08)
    on_left = chance(plan, 0.68)
    x = edge if on_left else 1 - edge - wide
    return Form(
        photo=(x, top, x + wide, top + high),
        left=x + wide + plan.uniform(0.03, 0.06) if on_left else edge,
        right=1 - edge if on_left else x - 0.03,
        top=top + plan.uniform(0, 0.03),
        step=plan.uniform(0.095, 0.125) if low < 0.9 else plan.uniform(0.11, 0.15),
        low=low,
        header=header,
        columns=int(plan.integers(1, 3)),
        numbered=numbered,
        beside=chance(plan, 0.3),
        size=plan.uniform(0.056, 0.078),
        foot=foot,
        upright=False,
    )


def _upright(plan: np.random.Generator, numbered: bool, header: str, foot: str, low: float) -> Form:
    top = plan.uniform(0.05, 0.1) if header == "low" else plan.uniform(0.2, 0.25)
    wide = plan.uniform(0.34, 0.5)
    high = wide * plan.uniform(1.1, 1.35) / CARD
    x = (0.07, 0.5 - wide / 2, 0.93 - wide)[int(plan.integers(3))]
    return Form(
        photo=(x, top, x + wide, top + high),
        left=0.07,
        right=0.93,
        top=top + high + 0.02,
        step=plan.uniform(0.072, 0.092),
        low=low,
        header=header,
        columns=int(plan.integers(1, 3)),
        numbered=numbered,
        beside=chance(plan, 0.3),
        size=plan.uniform(0.058, 0.08),
        foot=foot,
        upright=True,
    )


def draw_header(
    canvas: Canvas, design: Design, plan: np.random.Generator, style: str, lines: tuple[str, str]
) -> None:
    """Write who issues the card and its title, with a bar, a flag or an emblem."""
    scheme, faces = design.scheme, design.faces
    ink = scheme.ink
    colours = (scheme.accent, scheme.accent2)
    first, second = lines
    below = 0.82 if style == "low" else 0.0
    if style in ("bar", "band", "low"):
        canvas.fill((0, below, 1, below + (0.08 if style == "band" else 0.18)), scheme.accent)
        ink = ink_on(scheme.accent)
    if style == "band":
        canvas.text((0.5, 0.065), first, faces.bold, 0.055, ink, anchor="ms", room=0.8)
        canvas.text((0.5, 0.175), second, faces.bold, 0.075, scheme.ink, anchor="ms", room=0.8)
    elif style == "centre":
        emblem(canvas, (0.04, 0.03, 0.14, 0.19), colours, plan)
        canvas.text((0.5, 0.09), first, faces.bold, 0.07, ink, anchor="ms", room=0.66)
        canvas.text((0.5, 0.175), second, faces.body, 0.06, ink, anchor="ms", room=0.66)
    else:
        start = 0.05
        if style == "flag" or chance(plan, 0.5):
            flag(canvas, (0.05, below + 0.04, 0.16, below + 0.15), plan)
            start = 0.19
        canvas.text((start, below + 0.085), first, faces.bold, 0.068, ink, room=0.6)
        canvas.text((start, below + 0.155), second, faces.body, 0.055, ink, room=0.6)
        emblem(canvas, (0.86, below + 0.02, 0.96, below + 0.17), (scheme.accent2, scheme.ground), plan)


def draw_extras(
    canvas: Canvas, design: Design, rng: np.random.Generator, plan: np.random.Generator, at: Form
) -> None:
    """Add the chip, the hologram and the impersonal feet of a template."""
    if chance(plan, 0.25):
        chip(canvas, (at.right - 0.12, 0.26, at.right, 0.41), rng)
    if chance(plan, 0.5):
        x, y = plan.uniform(0.3, 0.75), plan.uniform(0.3, 0.55)
        hologram(canvas, (x, y, x + 0.13, y + 0.2), rng)
    if at.foot == "code":
        barcode(canvas, (0.3, 0.84, 0.94, 0.96), rng)
    elif at.foot == "classes":
        for column, letter in enumerate(("AM", "A", "B", "C", "D", "BE", "T")):
            x = 0.08 + 0.12 * column
            canvas.frame((x, 0.85, x + 0.1, 0.96), design.scheme.faint)
            canvas.text((x + 0.05, 0.905), letter, design.faces.bold, 0.06, design.scheme.ink, anchor="mm")


def draw_watermark(canvas: Canvas, design: Design, plan: np.random.Generator) -> None:
    """Print a pale emblem under everything."""
    if chance(plan, 0.5):
        x = plan.uniform(0.2, 0.55)
        emblem(canvas, (x, 0.3, x + 0.35, 0.85), (design.scheme.faint, design.scheme.ground), plan, 70)


def silhouette(canvas: Canvas, photo: Box, design: Design) -> None:
    """Mark a place for a portrait with the outline of head and shoulders."""
    x0, y0, x1, y1 = canvas.box(photo)
    wide, high = x1 - x0, y1 - y0
    ink = (*design.scheme.faint, 150)
    canvas.draw.ellipse([x0 + wide * 0.32, y0 + high * 0.18, x1 - wide * 0.32, y0 + high * 0.55], fill=ink)
    canvas.draw.pieslice([x0 + wide * 0.12, y0 + high * 0.62, x1 - wide * 0.12, y1 + high * 0.36], 180, 360, fill=ink)
