"""From an evaluation to the small record that a checkpoint and its bundles carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.evaluation_record import (
    MAX_ROWS,
    MAX_TEXT,
    AttackRow,
    CorruptionRow,
    EvaluationRecord,
    Figure,
    Overall,
    Robustness,
    SourceRow,
    Tally,
)
from safevlm_training.evaluation.evaluate import Evaluation
from safevlm_training.evaluation.hardening import Hardened
from safevlm_training.evaluation.intervals import Value, rate
from safevlm_training.evaluation.mistakes import text_of
from safevlm_training.evaluation.sample import Sample
from safevlm_training.robustness import results
from safevlm_training.robustness.rates import Rate

NAME = 200


def summarise(evaluation: Evaluation, hardened: Hardened | None = None, more: Iterable[str] = ()) -> EvaluationRecord:
    """The figures of an evaluation, without names of images and without paths.

    Args:
        evaluation: What was found.
        hardened: Its robustness, where it was measured.
        more: Further notes.
    """
    report, sample = evaluation.report, evaluation.sample
    sources, folded = _sources(sample)
    probe = report["probe"]
    return EvaluationRecord(
        schema_version=1,
        checkpoint=report["checkpoint"]["digest"],
        policy=report["policy"]["digest"],
        data=report["data"]["digest"],
        images=len(sample),
        groups=report["data"]["groups"],
        sources=sources,
        overall=_overall(report),
        probe_auroc=None if probe is None else _figure(probe["any_risk"]["auroc"]),
        robustness=None if hardened is None else _robustness(hardened.result),
        notes=tuple(note[:MAX_TEXT] for note in [*_notes(evaluation, hardened), *folded, *more]),
    )


def _sources(sample: Sample) -> tuple[tuple[SourceRow, ...], tuple[str, ...]]:
    """Rows per source and label; per argument of `--data` and label where these are too many, and a note on it."""
    rows = _rows(sample, sample.sources)
    if len(rows) <= MAX_ROWS:
        return rows, ()
    origins = np.array([item.example.origin for item in sample.items], dtype=object).astype(str)
    note = f"The images are of {len(set(sample.sources.tolist()))} sources, too many to list: they are summed up."
    return _rows(sample, origins), (note,)


def _rows(sample: Sample, names: NDArray[np.str_]) -> tuple[SourceRow, ...]:
    pairs = sorted({(name, kind) for name, kind in zip(names.tolist(), sample.types.tolist(), strict=True)})
    found = []
    for name, kind in pairs:
        value = rate(sample.flagged, (names == name) & (sample.types == kind), sample.groups, absent="")
        found.append(_row(name, sample.labels[kind], value))
    return tuple(found)


def _row(name: str, label: str, value: Value) -> SourceRow:
    count = value.count or 0
    return SourceRow(
        source=_short(name),
        category=label,
        images=value.images,
        groups=value.groups,
        flagged=count,
        rate=count / value.images,
        low=_share(value.low),
        high=_share(value.high),
        method="none" if value.method == "cluster_bootstrap" else value.method,
    )


def _short(name: str) -> str:
    text = text_of(name) or "(without a name)"
    return text if len(text) <= NAME else text[: NAME - 1] + "…"


def _overall(report: Mapping[str, Any]) -> Overall:
    risk = report["any_risk"]
    names = ("recall", "false_positive_rate", "precision", "f1", "auroc", "average_precision")
    return Overall(
        **{name: _figure(risk[name]) for name in names},
        level_accuracy=_figure(report["levels"]["accuracy"]),
        expected_calibration_error=_figure(risk["calibration"]["expected_calibration_error"]),
    )


def _figure(value: Value) -> Figure:
    return Figure(value=_share(value.value), low=_share(value.low), high=_share(value.high))


def _share(value: float | None) -> float | None:
    """The number as a plain one; rounding may have left it a little outside of 0 to 1."""
    return None if value is None else min(1.0, max(0.0, float(value)))


def _robustness(result: results.RobustnessResult) -> Robustness:
    corruptions = [max(rows, key=_harm) for _, rows in groupby(result.corruptions, key=lambda row: row.corruption)]
    return Robustness(
        corruptions=tuple(
            CorruptionRow(
                corruption=row.corruption,
                severity=row.severity,
                risky_flagged=_tally(row.risky),
                safe_flagged=_tally(row.safe),
            )
            for row in corruptions
        ),
        attacks=tuple(
            AttackRow(attack=row.attack, goal=row.goal, epsilon=row.epsilon, succeeded=_tally(row.success))
            for row in result.attacks
        ),
    )


def _harm(row: results.CorruptionRow) -> float:
    """Misses and false alarms together."""
    return (row.safe.rate or 0.0) - (row.risky.rate or 0.0)


def _tally(rate: Rate) -> Tally:
    return Tally(count=rate.count, images=rate.images)


def _notes(evaluation: Evaluation, hardened: Hardened | None) -> Iterable[str]:
    if evaluation.failed:
        yield f"{evaluation.failed} images or rows could not be judged and are in no figure."
    probe = evaluation.report["probe"]
    if probe is not None and probe["images_also_evaluated"]:
        both = probe["images_also_evaluated"]
        yield f"The linear probe was fitted on {both} of the evaluated images, too, which favours it."
    plan = None if hardened is None else hardened.result.attack
    if plan is not None:
        yield (
            f"Attacked with {plan.steps} gradients per image from one random start, on images of at most "
            f"{plan.max_side} pixels a side: a patient attacker will succeed more often."
        )
