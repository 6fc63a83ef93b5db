"""What the rows of an audit add up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from safevlm_runtime.audit.row import Row
from safevlm_sdk.actions import Action

SCORE_BINS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How some images were judged; `allow`, `caution` and `block` add up to `images`.

    Attributes:
        flagged: Cautioned or blocked for what was seen, for a hook's word, or for what nobody looked for, where the
            policy cautions of that; not because the gate failed.
        failed: The gate failed; counted under their action too.
        hooked: Named by the hash hook; flagged too.
        duplicates: Their bytes came before; counted like any other.
    """

    images: int = 0
    allow: int = 0
    caution: int = 0
    block: int = 0
    flagged: int = 0
    failed: int = 0
    hooked: int = 0
    duplicates: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Counts over all rows.

    Attributes:
        total: Of every row.
        sources: The same by source, in the order in which they came.
        categories: Images flagged for what was seen, by risk and level (1 to 3), the most frequent risk first.
        errors: Failed images by the name of the error, the most frequent first.
        hooks: Images by what the hash hook called them, the most frequent first.
        scores: Judged images by score, in `SCORE_BINS` equal bins from 0 to 1.
    """

    total: Tally
    sources: Mapping[str, Tally]
    categories: Mapping[str, Mapping[int, int]]
    errors: Mapping[str, int]
    hooks: Mapping[str, int]
    scores: tuple[int, ...]


def is_flagged(row: Row) -> bool:
    """Whether the image is cautioned or blocked for any other reason than that the gate failed."""
    return row.error is None and row.action is not Action.ALLOW


def summarise(rows: Iterable[Row]) -> Summary:
    """Counts rows in one pass; what it keeps grows with the sources, not with the rows."""
    kinds: dict[str, Counter[tuple[Action, bool, bool, bool]]] = {}
    found: Counter[tuple[str, int]] = Counter()
    errors: Counter[str] = Counter()
    hooks: Counter[str] = Counter()
    scores = [0] * SCORE_BINS
    for row in rows:
        kind = (row.action, row.error is not None, row.hook is not None, row.duplicate_of is not None)
        kinds.setdefault(row.source, Counter())[kind] += 1
        if row.error is not None:
            errors[row.error] += 1
        if row.hook is not None:
            hooks[row.hook] += 1
        if row.score is not None:
            scores[min(int(row.score * SCORE_BINS), SCORE_BINS - 1)] += 1
        if is_flagged(row) and row.category is not None and row.level:
            found[row.category, int(row.level)] += 1
    return Summary(
        total=_tally(sum(kinds.values(), Counter())),
        sources={name: _tally(counts) for name, counts in kinds.items()},
        categories=_by_category(found),
        errors=dict(errors.most_common()),
        hooks=dict(hooks.most_common()),
        scores=tuple(scores),
    )


def _tally(kinds: Counter[tuple[Action, bool, bool, bool]]) -> Tally:
    def count(action: Action) -> int:
        return sum(number for kind, number in kinds.items() if kind[0] is action)

    return Tally(
        images=kinds.total(),
        allow=count(Action.ALLOW),
        caution=count(Action.CAUTION),
        block=count(Action.BLOCK),
        flagged=sum(
            number for (action, failed, *_), number in kinds.items() if action is not Action.ALLOW and not failed
        ),
        failed=sum(number for (_, failed, *_), number in kinds.items() if failed),
        hooked=sum(number for (*_, hooked, _), number in kinds.items() if hooked),
        duplicates=sum(number for (*_, duplicate), number in kinds.items() if duplicate),
    )


def _by_category(found: Counter[tuple[str, int]]) -> dict[str, dict[int, int]]:
    totals: Counter[str] = Counter()
    for (category, _), number in found.items():
        totals[category] += number
    return {category: {level: found[category, level] for level in (1, 2, 3)} for category, _ in totals.most_common()}
