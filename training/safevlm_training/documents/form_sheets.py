"""Where forms put their fields."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from .streams import chance, pick
from .values import Box

LABELS = (
    "Surname", "First names", "Date of birth", "Place of birth", "Nationality", "Address", "City", "Postcode",
    "Telephone", "E-mail", "Document no.", "Account", "Occupation", "Employer", "Next of kin", "Doctor",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One field: its area, what it looks like and what is asked.

    Attributes:
        kind: "line", "box", "shade", "comb", "ticks", "sign", "photo" or "section".
        area: Where it stands, its label included.
        label: What is asked.
        number: Its number on the sheet.
        slots: Letters that a comb holds.
    """

    kind: str
    area: Box
    label: str = ""
    number: int = 0
    slots: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One form's template; positions are fractions of the sides, text sizes of the shorter side."""

    ratio: float
    edge: float
    head: float
    header: str
    mark: str
    title: float
    label: float
    numbered: bool
    photo: bool
    outline: bool
    cells: tuple[Cell, ...]


def sheet(plan: np.random.Generator) -> Sheet:
    """Settle a template: header, photo box, rows of fields, a signature."""
    ratio = (0.707, 0.707, 0.77, 1.414, 1.0, 1.75)[int(plan.integers(6))]
    edge, head = plan.uniform(0.04, 0.1), plan.uniform(0.1, 0.16) * (1.0 if ratio < 1 else 1.35)
    photo = _photo(plan, ratio, edge, head) if chance(plan, 0.5) else None
    cells = _rows(plan, ratio, edge, head, photo)
    return Sheet(
        ratio=ratio,
        edge=edge,
        head=head,
        header=pick(plan, ("bar", "plain", "frame", "plain")),
        mark=pick(plan, ("emblem", "flag", "logo", "")),
        title=plan.uniform(0.05, 0.075),
        label=plan.uniform(0.026, 0.034),
        numbered=chance(plan, 0.4),
        photo=photo is not None,
        outline=chance(plan, 0.5),
        cells=tuple(cells) if photo is None else (*cells, Cell(kind="photo", area=photo)),
    )


def _photo(plan: np.random.Generator, ratio: float, edge: float, head: float) -> Box:
    wide = plan.uniform(0.2, 0.28) if ratio < 1 else plan.uniform(0.15, 0.2)
    high = wide * ratio * plan.uniform(1.15, 1.35)
    x = 1 - edge - wide if chance(plan, 0.7) else edge
    return (x, head + 0.025, x + wide, head + 0.025 + high)


def _rows(plan: np.random.Generator, ratio: float, edge: float, head: float, photo: Box | None) -> list[Cell]:
    """Divide the sheet into rows of one to three fields, leave room for the photo, end with a signature."""
    step = plan.uniform(0.078, 0.1) * (1.0 if ratio < 0.9 else 1.25)
    style = pick(plan, ("line", "box", "comb", "shade", "mixed"))
    labels = [LABELS[i] for i in (*range(3), *plan.permutation(np.arange(3, len(LABELS))).tolist())]
    cells: list[Cell] = []
    y, number = head + 0.025, 0
    sections = chance(plan, 0.5)
    while y + step < 0.86 and number < len(labels):
        left, right = edge, 1 - edge
        if photo is not None and y < photo[3] + 0.01:
            left, right = (photo[2] + 0.03, right) if photo[0] < 0.4 else (left, photo[0] - 0.03)
        if sections and chance(plan, 0.22):
            cells.append(Cell(kind="section", area=(left, y + 0.006, right, y + 0.036)))
            y += 0.045
        across = int(plan.integers(1, 4)) if right - left > 0.7 else int(plan.integers(1, 3))
        for area in _split(plan, (left, y, right, y + step - 0.012), across):
            kind = style if style != "mixed" else pick(plan, ("line", "box", "comb", "shade"))
            kind = "ticks" if chance(plan, 0.12) and area[2] - area[0] > 0.4 else kind
            slots = max(4, round((area[2] - area[0]) / (0.045 if ratio < 1 else 0.032)))
            label = labels[number % len(labels)]
            number += 1
            cells.append(Cell(kind=kind, area=area, label=label, number=number, slots=slots))
        y += step
    return [*cells, *_end(plan, edge, number)]


def _end(plan: np.random.Generator, edge: float, number: int) -> list[Cell]:
    middle = plan.uniform(0.35, 0.6)
    first, second = (edge, 0.875, middle - 0.02, 0.94), (middle, 0.865, 1 - edge, 0.945)
    if chance(plan, 0.4):
        first, second = (middle, 0.875, 1 - edge, 0.94), (edge, 0.865, middle - 0.02, 0.945)
    return [
        Cell(kind="line", area=first, label="Date", number=number + 1),
        Cell(kind=pick(plan, ("sign", "sign", "line")), area=second, label="Signature", number=number + 2),
    ]


def _split(plan: np.random.Generator, area: Box, across: int) -> list[Box]:
    cuts = [0.0, *np.sort(plan.uniform(0.3, 0.7, across - 1)).tolist(), 1.0] if across < 3 else [0.0, 0.36, 0.68, 1.0]
    wide = area[2] - area[0]
    return [
        (area[0] + wide * first + (0.01 if first else 0), area[1], area[0] + wide * second, area[3])
        for first, second in itertools.pairwise(cuts)
    ]
