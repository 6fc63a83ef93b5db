"""Figures as cells of the page and of the terminal, and tables of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from safevlm_sdk.command.printing import printable
from safevlm_training.evaluation.intervals import Value

UNKNOWN = "-"


class Html(str):
    """Text that is HTML already; every other text is escaped."""

    __slots__ = ()


def number(value: float | None) -> str:
    """Three decimals, or a dash; 1.000 and 0.000 only where it is so."""
    if value is None:
        return UNKNOWN
    text = f"{value:.3f}"
    return f"{value:.4f}" if text in ("1.000", "0.000") and value not in (0.0, 1.0) else text


def short(value: Value) -> str:
    """A figure and its interval, in one line of text."""
    if value.value is None:
        return UNKNOWN
    interval = "" if value.low is None else f" [{number(value.low)}, {number(value.high)}]"
    return number(value.value) + interval


def cell(value: Value) -> Html:
    """A figure, its interval and what it rests on; a note is a tooltip and a sign."""
    if value.value is None:
        return Html(f'<span class="none" title="{escape(value.note or "")}">{UNKNOWN}</span>')
    interval = "" if value.low is None else f' <span class="range">[{number(value.low)}, {number(value.high)}]</span>'
    part = f"{value.count} of {value.images}" if value.count is not None else f"{value.images} images"
    groups = "" if value.groups == value.images else f", {value.groups} groups"
    sign = f'<sup title="{escape(value.note)}">*</sup>' if value.note else ""
    return Html(f'<b>{number(value.value)}</b>{sign}{interval}<br><span class="small">{part}{groups}</span>')


def table(head: Sequence[str], rows: Iterable[Sequence[str | int]]) -> Html:
    """A table whose first column names the rows."""
    heads = "".join(f'<th scope="col">{_cell(one)}</th>' for one in head)
    body = "\n".join(
        f'<tr><th scope="row">{_cell(row[0])}</th>' + "".join(f"<td>{_cell(one)}</td>" for one in row[1:]) + "</tr>"
        for row in rows
    )
    return Html(
        f'<div class="wide"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )


def paragraph(text: str) -> Html:
    """A paragraph of text."""
    return Html(f"<p>{_cell(text)}</p>")


def notes(values: Iterable[Value]) -> Html:
    """The notes of figures, each once."""
    found = dict.fromkeys(value.note for value in values if value.note)
    if not found:
        return Html("")
    items = "".join(f"<li>{escape(note)}</li>" for note in found)
    return Html(f'<ul class="small">{items}</ul>')


def _cell(value: str | int) -> str:
    return value if isinstance(value, Html) else escape(printable(str(value)))
