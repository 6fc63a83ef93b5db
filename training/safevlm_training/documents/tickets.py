"""Tickets and passes that anybody may hold: no passenger, no seat holder."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .design import Design
from .ornaments import barcode, logo, matrix_code, symbol
from .palette import ink_on, mix
from .scripts import in_script
from .streams import chance, pick
from .text import digits, name, words
from .values import Artwork, Colour

TITLES = (
    "BOARDING", "CINEMA", "CONCERT", "ONE WAY", "DAY TICKET", "MUSEUM", "FERRY", "PARKING", "ADMIT ONE", "VOUCHER",
    "CLOAKROOM", "LOTTERY",
)  # fmt: skip
LABELS = ("Gate", "Seat", "Row", "Platform", "Date", "Time", "Hall", "Zone", "Class", "Price")


def ticket(design: Design, rng: np.random.Generator) -> Artwork:
    """Draw a ticket: where, when, which seat and a code, but for nobody by name."""
    plan = design.plan()
    upright = chance(plan, 0.2)
    canvas, pattern = design.card(rng, plan, plan.uniform(0.38, 0.6) if upright else plan.uniform(1.7, 2.9))
    ground = design.scheme.ground
    if chance(plan, 0.5):
        ground = mix(ground, (255, 255, 255), 0.8)
        canvas.fill((0, 0, 1, 1), ground)
    high = plan.uniform(0.12, 0.22) * (0.6 if upright else 1.0)
    canvas.fill((0, 0, 1, high), design.scheme.accent)
    size = 0.6 * high * canvas.height / canvas.unit
    ink = ink_on(design.scheme.accent)
    canvas.text((0.04, high * 0.72), pick(rng, TITLES), design.faces.bold, size, ink, room=0.5)
    firm = in_script(name(rng), design.faces.script)
    canvas.text((0.96, high * 0.72), firm, design.faces.body, size, ink, anchor="rs", room=0.35)
    stub = 1.0 if upright or chance(plan, 0.3) else plan.uniform(0.68, 0.8)
    if stub < 1:
        for y in np.arange(0, 1, 0.06).tolist():
            canvas.fill((stub - 0.002, y, stub + 0.002, y + 0.03), design.scheme.ink)
    _route(canvas, design, rng, plan, (stub, high), ink_on(ground))
    _code(canvas, rng, plan, upright=upright, stub=stub)
    if chance(plan, 0.3):
        logo(canvas, (stub - 0.16, high + 0.05, stub - 0.03, high + 0.35), (design.scheme.accent2, ink), plan)
    return design.done(canvas, radius=float(plan.choice([0.0, 0.04])), pattern=pattern, upright=str(upright).lower())


def _route(
    canvas: Canvas,
    design: Design,
    rng: np.random.Generator,
    plan: np.random.Generator,
    at: tuple[float, float],
    ink: Colour,
) -> None:
    """Write from where to where, or a title, and a row of small facts."""
    stub, high = at
    faces = design.faces
    y = high + (1 - high) * 0.26
    if chance(plan, 0.5):
        first, second = (in_script(name(rng), faces.script).upper()[:5] for _ in range(2))
        canvas.text((0.05, y), first, faces.bold, 0.19, ink, room=stub * 0.35)
        symbol(canvas, (stub * 0.43, y - 0.14, stub * 0.53, y), design.scheme.accent2, plan)
        canvas.text((stub * 0.56, y), second, faces.bold, 0.19, ink, room=stub * 0.38)
    else:
        canvas.text((0.05, y), in_script(words(rng, 3), faces.script).title(), faces.bold, 0.15, ink, room=stub * 0.9)
    across = int(plan.integers(2, 5))
    order = plan.permutation(len(LABELS)).tolist()
    for spot in range(across * int(plan.integers(1, 3))):
        x, top = 0.05 + stub * 0.92 * (spot % across) / across, y + (1 - high) * (0.14 + 0.24 * (spot // across))
        canvas.text((x, top), LABELS[order[spot]], faces.body, 0.055, ink, room=stub * 0.9 / across)
        fact = (
            f"{digits(rng, 2)}:{digits(rng, 1)}0"
            if chance(rng, 0.5)
            else f"{pick(rng, tuple('ABCDEF'))}{digits(rng, 2)}"
        )
        canvas.text((x, top + (1 - high) * 0.12), fact, faces.bold, 0.095, ink, room=stub * 0.85 / across)


def _code(canvas: Canvas, rng: np.random.Generator, plan: np.random.Generator, *, upright: bool, stub: float) -> None:
    bars = chance(plan, 0.5)
    if upright:
        area = (0.12, 0.82, 0.88, 0.96) if bars else (0.25, 0.74, 0.75, 0.97)
    else:
        area = (stub + 0.03, 0.4, 0.97, 0.7) if stub < 1 else (0.72, 0.4, 0.96, 0.94)
    if bars:
        barcode(canvas, area, rng)
    else:
        matrix_code(canvas, area, rng)
