"""Small line charts as SVG text: the same numbers give the same bytes, and the page's style sheet colours them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 380, 320
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 46
Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis.

    Attributes:
        title: Beside it.
        low: First value shown; what is smaller is drawn there.
        high: Last value shown.
        log: Whether powers of ten are equally far apart.
        ticks: Where labels stand.
    """

    title: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    ticks: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

    def share(self, value: float) -> float:
        """Where a value lies between both ends, from 0 to 1."""
        kept = min(self.high, max(self.low, value))
        if self.log:
            return math.log(kept / self.low) / math.log(self.high / self.low)
        return (kept - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One series; `kind` is a class of the style sheet, `name` stands in the key."""

    name: str
    kind: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One point, with its vertical interval where it has one."""

    x: float
    y: float
    low: float | None
    high: float | None
    kind: str
    title: str


def chart(title: str, x: Axis, y: Axis, lines: Sequence[Line], marks: Sequence[Mark] = ()) -> str:
    """A figure with a frame, a grid, lines and marks; `title` is its caption."""
    drawn = [*_grid(x, y)]
    drawn += [_line(line, x, y) for line in lines]
    drawn += [_mark(mark, x, y) for mark in marks]
    key = "".join(f'<span class="key {escape(line.kind)}">{escape(line.name)}</span> ' for line in lines if line.name)
    body = "\n".join(drawn)
    return (
        f'<figure class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">\n'
        f"{body}\n</svg><figcaption><b>{escape(title)}</b> {key}</figcaption></figure>"
    )


def _place(point: Point, x: Axis, y: Axis) -> tuple[str, str]:
    across = LEFT + x.share(point[0]) * (WIDTH - LEFT - RIGHT)
    down = HEIGHT - BOTTOM - y.share(point[1]) * (HEIGHT - TOP - BOTTOM)
    return f"{across:.2f}", f"{down:.2f}"


def _grid(x: Axis, y: Axis) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    found = []
    for tick in x.ticks:
        place, _ = _place((tick, y.low), x, y)
        found.append(f'<line class="grid" x1="{place}" y1="{TOP}" x2="{place}" y2="{bottom}"/>')
        found.append(f'<text x="{place}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    for tick in y.ticks:
        _, place = _place((x.low, tick), x, y)
        found.append(f'<line class="grid" x1="{LEFT}" y1="{place}" x2="{right}" y2="{place}"/>')
        found.append(f'<text x="{LEFT - 7}" y="{place}" dy=".35em" text-anchor="end">{tick:g}</text>')
    middle = (TOP + bottom) / 2
    found.append(f'<text x="{(LEFT + right) / 2:g}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x.title)}</text>')
    found.append(
        f'<text x="14" y="{middle:g}" text-anchor="middle" transform="rotate(-90 14 {middle:g})">'
        f"{escape(y.title)}</text>"
    )
    return found


def _line(line: Line, x: Axis, y: Axis) -> str:
    points = " ".join(",".join(_place(point, x, y)) for point in line.points)
    return f'<polyline class="line {escape(line.kind)}" points="{points}"/>'


def _mark(mark: Mark, x: Axis, y: Axis) -> str:
    across, down = _place((mark.x, mark.y), x, y)
    bar = ""
    if mark.low is not None and mark.high is not None:
        _, low = _place((mark.x, mark.low), x, y)
        _, high = _place((mark.x, mark.high), x, y)
        bar = f'<line class="bar {escape(mark.kind)}" x1="{across}" y1="{low}" x2="{across}" y2="{high}"/>'
    dot = f'<circle class="dot {escape(mark.kind)}" cx="{across}" cy="{down}" r="4"/>'
    return f"<g><title>{escape(mark.title)}</title>{bar}{dot}</g>"
