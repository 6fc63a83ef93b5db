"""How a gate decides on damaged pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from safevlm_training.data import Example
from safevlm_training.robustness.corruptions import Corruption, corrupt
from safevlm_training.robustness.gate import Gate, Judgement
from safevlm_training.robustness.pictures import Picture, groups_of
from safevlm_training.robustness.rates import mean, rate_of
from safevlm_training.robustness.results import UNCHANGED, CorruptionRow, Sample

Judged = dict[tuple[str, str], list[Judgement]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrupted:
    """Rows per severity, the unchanged pictures first, and the pictures they are of."""

    rows: tuple[CorruptionRow, ...]
    risky: Sample
    safe: Sample


def measure_corruptions(
    gate: Gate, corruptions: Sequence[Corruption], risky: Iterable[Picture], safe: Iterable[Picture]
) -> Corrupted:
    """Judges every picture unchanged, and under every severity of every corruption."""
    (on_risky, risky_sample), (on_safe, safe_sample) = (
        _judge_all(gate, corruptions, pictures) for pictures in (risky, safe)
    )
    steps = [(UNCHANGED, ""), *((c.name, step.label) for c in corruptions for step in c.steps)]
    rows = tuple(_row(key, on_risky[key], on_safe[key]) for key in steps)
    return Corrupted(rows=rows, risky=risky_sample, safe=safe_sample)


def _judge_all(gate: Gate, corruptions: Sequence[Corruption], pictures: Iterable[Picture]) -> tuple[Judged, Sample]:
    judged: Judged = defaultdict(list)
    seen: list[Example] = []
    for picture in pictures:
        seen.append(picture.example)
        judged[UNCHANGED, ""].append(gate.judge(picture.pixels))
        for corruption in corruptions:
            for step in corruption.steps:
                damaged = corrupt(picture.pixels, corruption, step)
                judged[corruption.name, step.label].append(gate.judge(damaged))
    return judged, Sample(images=len(seen), groups=groups_of(seen))


def _row(key: tuple[str, str], risky: Sequence[Judgement], safe: Sequence[Judgement]) -> CorruptionRow:
    return CorruptionRow(
        corruption=key[0],
        severity=key[1],
        risky=rate_of(one.flagged for one in risky),
        safe=rate_of(one.flagged for one in safe),
        risky_score=mean(one.score for one in risky),
        safe_score=mean(one.score for one in safe),
    )
