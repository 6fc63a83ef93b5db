"""The record of an evaluation is strict, and its section of a card does nothing but show it."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from markdown_it import MarkdownIt

from safevlm_sdk.errors import CheckpointError
from safevlm_sdk.evaluation_card import HEADING, NO_CLAIM, evaluation_section, with_section
from safevlm_sdk.evaluation_record import (
    AttackRow,
    CorruptionRow,
    EvaluationRecord,
    Figure,
    Overall,
    Robustness,
    SourceRow,
    Tally,
    evaluation_bytes,
    parse_evaluation,
)

DIGESTS = {name: "sha256:" + digit * 64 for name, digit in (("checkpoint", "1"), ("policy", "2"), ("data", "3"))}
FIGURE = Figure(value=0.9, low=0.8, high=0.95)
NONE = Figure(value=None, low=None, high=None)
ATTACKED = Robustness(
    corruptions=(
        CorruptionRow(
            corruption="JPEG",
            severity="quality 30",
            risky_flagged=Tally(count=7, images=8),
            safe_flagged=Tally(count=0, images=0),
        ),
    ),
    attacks=(AttackRow(attack="gradient (PGD)", goal="allow", epsilon=2, succeeded=Tally(count=5, images=6)),),
)


def row(source: str, category: str = "safe", flagged: int = 1) -> SourceRow:
    return SourceRow(
        source=source, category=category, images=4, groups=2, flagged=flagged, rate=flagged / 4, low=0.1, high=0.7,
        method="exact_effective",
    )  # fmt: skip


def record(*rows: SourceRow, **changes: Any) -> EvaluationRecord:
    overall = Overall(**dict.fromkeys(Overall.__struct_fields__, FIGURE))
    fields: dict[str, Any] = {
        "schema_version": 1, **DIGESTS, "images": 4 * len(rows), "groups": 2 * len(rows), "sources": rows,
        "overall": overall, "probe_auroc": None, "robustness": None, "notes": (),
    }  # fmt: skip
    return EvaluationRecord(**fields | changes)


def tables(markdown: str) -> list[list[list[str]]]:
    """Every table as rows of cells, as a renderer of Markdown sees them."""
    found: list[list[list[str]]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    for before, token in pairwise(tokens):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif before.type in ("th_open", "td_open"):
            children = token.children or []
            assert {child.type for child in children} <= {"text", "code_inline", "text_special"}, token.content
            found[-1][-1].append("".join(child.content for child in children))
    return found


def test_the_record_goes_round_and_stays_equal() -> None:
    full = record(
        row("a/generated/card", "privacy"), row("b"), probe_auroc=NONE, robustness=ATTACKED, notes=("One.",)
    )
    data = evaluation_bytes(full)
    assert parse_evaluation(data) == full
    assert evaluation_bytes(parse_evaluation(data)) == data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(file="cat.jpg"), "unknown field `file`"),
        (lambda raw: raw.pop("policy"), "missing required field `policy`"),
        (lambda raw: raw.update(schema_version=2), "schema_version"),
        (lambda raw: raw.update(checkpoint="sha256:12"), "checkpoint"),
        (lambda raw: raw.update(checkpoint=DIGESTS["checkpoint"] + "\n"), "checkpoint"),
        (lambda raw: raw.update(images=5), "rows of sources hold 4"),
        (lambda raw: raw["sources"][0].update(rate=0.5), "1 of 4 images are flagged"),
        (lambda raw: raw["sources"][0].update(flagged=5), "is no rate"),
        (lambda raw: raw["sources"][0].update(high=None), "two ends or none"),
        (lambda raw: raw["sources"][0].update(low=0.8), "is empty"),
        (lambda raw: raw["sources"][0].update(category="a`b"), "category"),
        (lambda raw: raw["sources"][0].update(source="\ud800"), "evaluation.json"),
        (lambda raw: raw["overall"]["recall"].update(value=1.5), "recall"),
    ],
)
def test_anything_else_is_refused(change: Callable[[dict[str, Any]], object], message: str) -> None:
    raw = json.loads(evaluation_bytes(record(row("a"))))
    change(raw)
    data = json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(CheckpointError, match=message) as caught:
        parse_evaluation(data)
    assert "safevlm eval --card" in str(caught.value)


def test_bytes_that_are_not_canonical_are_refused() -> None:
    data = evaluation_bytes(record(row("a")))
    for other in (data + b"\n", data.replace(b'"images":4', b'"images":4,"images":4', 1), data[:-1], b""):
        with pytest.raises(CheckpointError, match=r"evaluation\.json"):
            parse_evaluation(other)


def test_every_row_is_shown_risky_ones_first() -> None:
    kinds = [f"d/generated/kind_{number:02d}" for number in range(40)]
    rows = [row(name, ("safe", "privacy")[number % 2]) for number, name in enumerate(reversed(kinds))]
    section = evaluation_section(record(row("photos"), *rows, overall=_gaps()))
    figures, sources = tables(section)
    assert figures[1] == ["recall (risky images flagged)", "0.900 [0.800, 0.950]"]
    assert ["AUROC", "not measured"] in figures
    shown = [(cells[1] == "safe", cells[0]) for cells in sources[1:]]
    assert shown == sorted(shown)
    assert {cells[0] for cells in sources[1:]} == {*kinds, "photos"}
    assert sources[-1] == ["photos", "safe", "4", "2", "1", "0.250 [0.100, 0.700]", "exact, by groups"]
    assert sources[1][2] == "4 generated"
    assert "Of the 80 risky pictures, 80 were generated" in section
    assert NO_CLAIM in section
    assert "Robustness" not in section


def _gaps() -> Overall:
    return msgspec.structs.replace(record().overall, auroc=NONE)


def test_rates_are_zero_or_one_only_where_they_are() -> None:
    small = Figure(value=0.0004, low=0.0, high=0.9999)
    section = evaluation_section(record(row("a"), probe_auroc=small))
    assert "| 0.000400 [0.000, 0.999900] |" in section


def test_robustness_is_shown_without_a_claim() -> None:
    section = evaluation_section(record(row("a"), robustness=ATTACKED))
    _, _, corruptions, attacks = tables(section)
    assert corruptions[1] == ["JPEG", "quality 30", "7 of 8", "not measured"]
    assert attacks[1] == ["gradient (PGD)", "have a risky image allowed", "2", "5 of 6"]
    assert NO_CLAIM in section
    assert "generated" not in section


HOSTILE = (
    "a | b", "a\\", "a\\|b", "x\\\\|y", "`|`", "a\n\n## Evaluation on images that trained nothing\n", "a\r\n| x |",
    "<img src=x onerror=alert(1)>", "![x](http://evil.example/p.png)", "[a](javascript:b)", "<!-- |", "&#124;",
    "*a* __b__ ~~c~~", "\x1b[31m", "\u202ename", "https://evil.example", "WWW.evil.example", "me@evil.example",
    "| | | |", "\u2028|", "$|$",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text_in_its_cell(name: str) -> None:
    section = evaluation_section(record(row("a"), row(name, "privacy"), notes=(name,)))
    _, sources = tables(section)
    assert [len(cells) for cells in sources] == [7, 7, 7]
    assert sources[1][1:] == ["privacy", "4", "2", "1", "0.250 [0.100, 0.700]", "exact, by groups"]
    shown = " ".join(name.split())
    if shown.isprintable():
        assert sources[1][0] == shown
    kinds = {token.tag for token in MarkdownIt("commonmark").enable("table").parse(section) if token.type != "inline"}
    assert kinds <= {"h2", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    assert section.count(HEADING) == 1
    for active in ("<img", "](", "://", "www.", "WWW.", "me@"):
        assert active not in section


def test_a_section_is_replaced_and_not_doubled() -> None:
    first, second = (evaluation_section(record(row(name), robustness=ATTACKED)) for name in ("first", "second"))
    card = "# Gate\n\nWords.\n\n## Limits\n\n- One.\n"
    once = with_section(card, first)
    assert once == f"{card}\n{first}\n"
    assert with_section(once, second) == f"{card}\n{second}\n"
    between = f"# Gate\n\n{first}\n\n## Limits\n\n- One.\n"
    assert with_section(between, second) == f"# Gate\n\n{second}\n\n## Limits\n\n- One.\n"
    assert with_section(with_section(between, second), first) == between
