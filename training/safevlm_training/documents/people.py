"""Invented people: names, dates and numbers that belong to nobody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .scripts import in_script
from .streams import pick
from .text import digits, name

STATES = (
    ("Norvana", "XNV"), ("Velmoria", "XVM"), ("Ostrevia", "XOT"), ("Calidoria", "XCD"), ("Brunmark", "XBM"),
    ("Zemlonia", "XLZ"), ("Quillara", "XQL"), ("Ardenwald", "XAW"), ("Tassandra", "XTS"), ("Lunegard", "XLG"),
    ("Marevia", "XMV"), ("Pellucia", "XPC"), ("Sorrentia", "XSR"), ("Hallowmere", "XHM"), ("Kestria", "XKT"),
    ("Drovenia", "XDV"), ("Fenwick Isles", "XFW"), ("Isperia", "XIP"), ("Jorvelund", "XJV"), ("Umbravia", "XUB"),
)  # fmt: skip
"""Invented states; the codes lie in the range ISO 3166 leaves to users."""

REALMS = ("Republic of", "Kingdom of", "Federation of", "Union of", "Free State of", "Commonwealth of")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who does not exist; names are written in the document's script."""

    given: str
    surname: str
    sex: str
    born: str
    issued: str
    expires: str
    place: str
    number: str
    state: str
    code: str
    latin: tuple[str, str]


def passes_luhn(number: str) -> bool:
    """Apply the check sum of payment cards to the digits of a string."""
    total = 0
    for place, digit in enumerate(reversed([int(c) for c in number if c.isdigit()])):
        doubled = digit * 2 if place % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def card_number(rng: np.random.Generator) -> str:
    """Write a 16-digit card number in groups of four that no payment network could accept."""
    number = digits(rng, 16)
    if passes_luhn(number):
        number = number[:-1] + str((int(number[-1]) + 1 + int(rng.integers(8))) % 10)
    return " ".join(number[i : i + 4] for i in range(0, 16, 4))


def date(rng: np.random.Generator, first: int, last: int, style: str) -> str:
    """Write a date between two years in one of three styles."""
    year, month, day = (int(rng.integers(a, b)) for a, b in ((first, last), (1, 13), (1, 29)))
    if style == "iso":
        return f"{year}-{month:02d}-{day:02d}"
    if style == "dots":
        return f"{day:02d}.{month:02d}.{year}"
    months = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
    return f"{day:02d} {months[month - 1]} {year}"


def state_title(rng: np.random.Generator) -> str:
    """Name an invented state in full."""
    return f"{pick(rng, REALMS)} {STATES[int(rng.integers(len(STATES)))][0]}"


def person(rng: np.random.Generator, script: str) -> Person:
    """Invent somebody."""
    state, code = STATES[int(rng.integers(len(STATES)))]
    given, surname = name(rng), name(rng)
    style = pick(rng, ("iso", "dots", "words"))
    letters = "".join("ABCDEFGHJKLMNPRSTUVWXYZ"[i] for i in rng.integers(0, 23, 2))
    return Person(
        given=in_script(given, script),
        surname=in_script(surname, script),
        sex=pick(rng, ("F", "M", "X")),
        born=date(rng, 1945, 2008, style),
        issued=date(rng, 2014, 2025, style),
        expires=date(rng, 2026, 2036, style),
        place=in_script(name(rng), script),
        number=letters + digits(rng, 7),
        state=in_script(f"{pick(rng, REALMS)} {state}", script),
        code=code,
        latin=(given.upper(), surname.upper()),
    )


def machine_lines(rng: np.random.Generator, who: Person, lead: str, lines: int, length: int) -> list[str]:
    """Write lines that look machine readable; their check digits are random."""
    given, surname = who.latin
    named = f"{surname}<<{given}"
    data = f"{who.number}{digits(rng, 1)}{who.code}{digits(rng, 7)}{who.sex.replace('X', '<')}{digits(rng, 7)}"
    if lines == 2:
        raw = [f"{lead}<{who.code}{named}", data]
    else:
        raw = [f"{lead}<{who.code}{who.number}{digits(rng, 1)}", data[10:], named]
    return [line[:length].ljust(length, "<") for line in raw]
