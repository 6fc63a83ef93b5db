"""The few rows that a report shows one by one."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from safevlm_runtime.audit.row import Row
from safevlm_runtime.audit.summary import is_flagged

SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Picks:
    """Rows worth a look; each list holds at most as many as were asked for.

    Attributes:
        flagged: The worst of the flagged ones: the hardest action first, then the highest level and score. Copies and
            whatever the hash hook named are left out.
        failed: The first ones on which the gate failed.
    """

    flagged: tuple[Row, ...]
    failed: tuple[Row, ...]


def pick(rows: Iterable[Row], *, most: int = SHOWN) -> Picks:
    """Goes once through the rows and keeps the few."""
    failed: list[Row] = []

    def candidates() -> Iterator[Row]:
        for row in rows:
            if row.error is not None and len(failed) < most:
                failed.append(row)
            if is_flagged(row) and row.hook is None and row.duplicate_of is None:
                yield row

    worst = heapq.nlargest(most, candidates(), key=_badness)  # equal ones stay in the order of the source
    return Picks(flagged=tuple(worst), failed=tuple(failed))


def _badness(row: Row) -> tuple[int, int, float]:
    return (row.action.severity, row.level or 0, row.score or 0.0)
