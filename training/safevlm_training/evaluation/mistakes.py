"""The worst mistakes, by file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from safevlm_training.data import BadRow
from safevlm_training.evaluation.judging import Unjudged
from safevlm_training.evaluation.sample import ACTIONS, Sample
from safevlm_training.evaluation.sources import Source

SHOWN = 20
KINDS = ("false_alarms", "misses", "wrong_category")


def worst_mistakes(sample: Sample, sources: Iterable[Source]) -> dict[str, Any]:
    """Per kind: how many there are, and the `SHOWN` worst, each with its file, label, decision and score."""
    roots = {source.name: source.path for source in sources}
    chosen = {
        "false_alarms": (sample.flagged & ~sample.risky, -sample.risk_odds),
        "misses": (~sample.flagged & sample.risky, sample.risk_odds),
        "wrong_category": (sample.flagged & sample.risky & (sample.decided != sample.types), -sample.risk_odds),
    }
    found = {}
    for kind, (wrong, worst_first) in chosen.items():
        rows = np.flatnonzero(wrong)
        rows = rows[np.argsort(worst_first[rows], kind="stable")]
        found[kind] = {"count": len(rows), "worst": [_mistake(sample, int(row), roots) for row in rows[:SHOWN]]}
    return found


def failures(unjudged: Iterable[Unjudged], sources: Iterable[Source]) -> list[dict[str, str]]:
    """The images that the gate failed on."""
    roots = {source.name: source.path for source in sources}
    return [
        {
            "file": text_of(shown_name(one.example.path, roots[one.example.origin])),
            "source": text_of(one.example.source),
            "category": one.example.category,
            "error": one.code,
            "reason": text_of(one.reason),
        }
        for one in unjudged
    ]


def bad_rows(rows: Iterable[BadRow]) -> list[dict[str, str]]:
    """The rows that carry no usable label or name no file."""
    return [{"where": text_of(row.where), "reason": text_of(row.reason)} for row in rows]


def shown_name(path: Path, root: Path) -> str:
    """The path below its source, so that a report does not tell where on the disk it was made."""
    folder = root if root.is_dir() else root.parent
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def text_of(name: str) -> str:
    """A file name as text that JSON can carry: bytes that are no text become escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _mistake(sample: Sample, row: int, roots: dict[str, Path]) -> dict[str, Any]:
    item, decision = sample.items[row], sample.decisions[row]
    return {
        "file": text_of(shown_name(item.example.path, roots[item.example.origin])),
        "sha256": item.image,
        "source": text_of(item.example.source),
        "group": text_of(item.group),
        "category": item.example.category,
        "level": item.example.level,
        "decided_category": decision.category,
        "decided_level": int(sample.decided_levels[row]),
        "action": ACTIONS[int(sample.actions[row])],
        "score": decision.score,
        "reason": decision.reason,
    }
