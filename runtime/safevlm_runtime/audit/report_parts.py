"""Tables, the histogram and the list of images of an audit's report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from safevlm_runtime.audit.row import Row
from safevlm_runtime.audit.summary import Tally
from safevlm_sdk.command.printing import printable
from safevlm_sdk.report_style import STYLE as BASE
from safevlm_sdk.taxonomy import RiskLevel

WIDTH, HEIGHT, LINE, LABELS = 900, 220, 24, 6

# A picture is sharp while its checkbox is set, which a click and the space bar do; the page has no script.
STYLE = f"""{BASE}main {{ display: block; }}
section {{ background: var(--card); border-radius: .6rem; padding: 1rem 1.25rem; margin: 1rem 0; overflow-x: auto; }}
h2 {{ margin-bottom: .4rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
td, tbody th {{ padding: .2rem 1.25rem .2rem 0; vertical-align: top; overflow-wrap: anywhere; }}
thead th {{ color: var(--quiet); font-size: .85rem; }}
svg {{ display: block; width: 100%; max-width: 56rem; height: auto; }}
svg rect {{ fill: var(--ink); opacity: .7; }}
svg text {{ fill: var(--quiet); font: 12px system-ui, sans-serif; }}
svg line {{ stroke: var(--quiet); }}
.thumb {{ display: inline-block; position: relative; overflow: hidden; border-radius: .3rem; }}
.thumb input {{ position: absolute; left: .3rem; top: .3rem; z-index: 1; }}
.thumb img {{ display: block; filter: blur(14px) grayscale(1); }}
.thumb input:checked + img {{ filter: none; }}
.thumb:focus-within {{ outline: 2px solid var(--ink); }}
@media print {{ .thumb img {{ visibility: hidden; }} }}
"""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain texts; the first cell of a row is its heading."""
    heads = "".join(f"<th scope='col'>{escape(text)}</th>" for text in head)
    top = f"<thead><tr>{heads}</tr></thead>" if any(head) else ""
    body = "".join(
        f"<tr><th scope='row'>{_text(first)}</th>{''.join(f'<td>{_text(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    return f"<table>{top}<tbody>{body}</tbody></table>"


def share(counts: Iterable[int], images: int) -> str:
    """Their sum over the images, in percent."""
    return f"{100 * sum(counts) / images:.3g} %" if images else ""


def histogram(counts: Sequence[int]) -> str:
    """An SVG of counts in equal bins from 0 to 1; heights grow with the logarithm."""
    floor, width = HEIGHT - LINE, WIDTH / len(counts)
    scale = (floor - LINE) / math.log1p(max(*counts, 1))
    bars = "".join(
        f"<rect x='{number * width:.1f}' y='{floor - math.log1p(count) * scale:.1f}' width='{width - 2:.1f}' "
        f"height='{math.log1p(count) * scale:.1f}'>"
        f"<title>{number / len(counts):.2f} to {(number + 1) / len(counts):.2f}: {count:,}</title></rect>"
        for number, count in enumerate(counts)
        if count
    )
    ticks = "".join(_tick(number / (LABELS - 1)) for number in range(LABELS))
    said = "; ".join(f"from {n / len(counts):.2f}: {count:,}" for n, count in enumerate(counts) if count)
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='Judged images by score: {said}'>{bars}"
        f"<line x1='0' x2='{WIDTH}' y1='{floor}' y2='{floor}'/>{ticks}</svg>"
    )


def flagged_list(rows: Sequence[Row], total: Tally, thumbnails: Mapping[str, str]) -> str:
    """The flagged images one by one, with their thumbnails where there are any."""
    if not rows:
        return "<p>None.</p>"
    shown = bool(thumbnails)
    note = (
        "The pictures are small, and blurred until you set the box in their corner."
        if shown
        else "No picture is shown: thumbnails were not asked for."
    )
    head = ("image", *(["picture"] if shown else []), "action", "risk", "level", "score", "why")
    body = "".join(_flagged(row, thumbnails if shown else None) for row in rows)
    heads = "".join(f"<th scope='col'>{text}</th>" for text in head)
    return (
        f"<p>{len(rows):,} of {total.flagged:,} flagged entries, the worst first, without copies and what the hash "
        f"hook named; verdicts.jsonl has all. {note}</p>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
    )


def _flagged(row: Row, thumbnails: Mapping[str, str] | None) -> str:
    level = "" if row.level is None else RiskLevel(row.level).name.lower()
    score = "" if row.score is None else f"{row.score:.3f}"
    picture = "" if thumbnails is None else f"<td>{_picture(row.path, thumbnails.get(row.path))}</td>"
    cells = "".join(f"<td>{_text(cell)}</td>" for cell in (row.category or "", level, score, row.reason))
    action = f"<td><b class='{row.action.value}'>{row.action.value}</b></td>"
    return f"<tr><th scope='row'>{_text(row.path)}</th>{picture}{action}{cells}</tr>"


def _picture(path: str, uri: str | None) -> str:
    if uri is None:
        return "none"
    label = escape(printable(f"show the picture of {path}"), quote=True)
    return f'<label class="thumb"><input type="checkbox" aria-label="{label}"><img alt="" src="{uri}"></label>'


def _tick(value: float) -> str:
    anchor = "start" if value == 0 else "end" if value == 1 else "middle"
    return f"<text x='{value * WIDTH:.1f}' y='{HEIGHT - 6}' text-anchor='{anchor}'>{value:.1f}</text>"


def _text(text: str) -> str:
    return escape(printable(text))
