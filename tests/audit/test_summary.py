"""The counts are those of the rows, and the few rows that are shown are the right ones."""

from __future__ import annotations

import random

import pytest

from safevlm_runtime.audit.picks import pick
from safevlm_runtime.audit.row import Row
from safevlm_runtime.audit.summary import SCORE_BINS, Tally, summarise
from safevlm_sdk.actions import Action


def row_of(number, **changes):
    parts = {
        "path": f"{number:04}.png",
        "source": "a",
        "sha256": f"{number:064x}",
        "action": Action.ALLOW,
        "category": "safe",
        "level": 0,
        "score": 0.01,
        "categories": {"privacy": 0.01},
        "reason": "",
        "error": None,
        "hook": None,
        "duplicate_of": None,
    }
    return Row(**(parts | changes))


RISKY = {"action": Action.BLOCK, "category": "privacy", "level": 3, "score": 0.9}
SLIGHT = {"action": Action.CAUTION, "category": "fairness", "level": 1, "score": 0.6}
UNJUDGED = {"category": None, "level": None, "score": None}
FAILED = UNJUDGED | {"action": Action.BLOCK, "error": "image_corrupt"}
HOOKED = UNJUDGED | {"action": Action.BLOCK, "hook": "known", "reason": "hook: known"}


@pytest.fixture
def rows():
    return [
        row_of(0),
        row_of(1, **RISKY),
        row_of(2, **RISKY, source="b", duplicate_of="0001.png"),
        row_of(3, **SLIGHT, source="b"),
        row_of(4, **FAILED, source="b"),
        row_of(5, **FAILED | {"action": Action.ALLOW, "error": "image_empty"}, source="b"),
        row_of(6, **HOOKED),
        row_of(7, **FAILED),
        row_of(8, score=1.0, action=Action.ALLOW),
    ]


def test_every_row_is_counted_once(rows):
    summary = summarise(iter(rows))
    assert summary.total == Tally(images=9, allow=3, caution=1, block=5, flagged=4, failed=3, hooked=1, duplicates=1)
    assert list(summary.sources) == ["a", "b"]
    assert summary.sources["b"] == Tally(images=4, allow=1, caution=1, block=2, flagged=2, failed=2, duplicates=1)
    assert summary.categories == {"privacy": {1: 0, 2: 0, 3: 2}, "fairness": {1: 1, 2: 0, 3: 0}}
    assert list(summary.errors.items()) == [("image_corrupt", 2), ("image_empty", 1)]
    assert summary.hooks == {"known": 1}


def test_scores_fall_into_equal_bins(rows):
    scores = summarise(rows).scores
    assert len(scores) == SCORE_BINS
    assert (scores[0], scores[12], scores[18], scores[19]) == (1, 1, 2, 1)
    assert sum(scores) == 5


def test_what_a_policy_cautions_because_nobody_looked_is_flagged_for_no_risk():
    summary = summarise([row_of(0, action=Action.CAUTION), row_of(1, **RISKY)])
    assert (summary.total.caution, summary.total.flagged) == (1, 2)
    assert summary.categories == {"privacy": {1: 0, 2: 0, 3: 1}}


def test_parts_add_up_to_the_whole():
    draw = random.Random(0)
    kinds = ({}, RISKY, SLIGHT, FAILED, HOOKED)
    rows = [row_of(n, **draw.choice(kinds), source=draw.choice("abcd")) for n in range(500)]
    summary = summarise(rows)
    for name in Tally.__slots__:
        assert getattr(summary.total, name) == sum(getattr(part, name) for part in summary.sources.values())
    total = summary.total
    assert total.allow + total.caution + total.block == total.images == 500
    assert sum(summary.errors.values()) == total.failed
    assert sum(sum(levels.values()) for levels in summary.categories.values()) == total.flagged - total.hooked


def test_no_rows_are_no_images():
    summary = summarise([])
    assert summary.total == Tally()
    assert not summary.sources
    assert sum(summary.scores) == 0


def test_the_worst_come_first_and_copies_and_hook_matches_do_not_come(rows):
    worse = [row_of(20, **SLIGHT | {"score": 0.99}), row_of(21, **RISKY | {"level": 1, "score": 1.0})]
    picks = pick([*rows, *worse])
    assert [row.path for row in picks.flagged] == ["0001.png", "0021.png", "0020.png", "0003.png"]
    assert [row.path for row in picks.failed] == ["0004.png", "0005.png", "0007.png"]


def test_no_more_are_picked_than_asked_for():
    rows = [row_of(n, **(RISKY if n % 2 else FAILED)) for n in range(20)]
    picks = pick(rows, most=3)
    assert [row.path for row in picks.flagged] == ["0001.png", "0003.png", "0005.png"]
    assert [row.path for row in picks.failed] == ["0000.png", "0002.png", "0004.png"]
