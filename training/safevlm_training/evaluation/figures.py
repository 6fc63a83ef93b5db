"""Figures of one class against the others, at the shipped thresholds and without any."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safevlm_training.evaluation.intervals import Value, rate
from safevlm_training.evaluation.ranking import rank_figures
from safevlm_training.evaluation.resampling import Evidence, Float, Resamples, bootstrapped

Bool = NDArray[np.bool_]


def class_figures(truth: Bool, said: Bool, resamples: Resamples) -> dict[str, Value]:
    """Precision, recall, F1 and false-positive rate of what was `said` [N] about the `truth` [N]."""
    groups = resamples.groups
    return {
        "precision": rate(truth, said, groups, absent="nothing was said to be of this class"),
        "recall": rate(said, truth, groups, absent="no image of this class"),
        "f1": _f1(truth, said, resamples),
        "false_positive_rate": rate(said, ~truth, groups, absent="no image of another class"),
    }


def ranked_figures(truth: Bool, score: Float, among: Bool, resamples: Resamples) -> dict[str, Any]:
    """AUROC, average precision and recall at fixed false-positive rates, `among` [N] the images that count."""
    return rank_figures(truth, score, np.flatnonzero(among), resamples)


def size_of(truth: Bool, groups: NDArray[np.int64]) -> dict[str, int]:
    """Images and groups of a class."""
    return {"images": int(truth.sum()), "groups": len(np.unique(groups[truth]))}


def f1(sums: Float) -> Float:
    """F1 [B] from true positives, false positives and false negatives [B, 3]; NaN where all are 0."""
    hits, wrong = sums[:, 0], sums[:, 1] + sums[:, 2]
    found: Float = np.divide(2 * hits, 2 * hits + wrong, out=np.full(len(sums), np.nan), where=2 * hits + wrong > 0)
    return found


def _f1(truth: Bool, said: Bool, resamples: Resamples) -> Value:
    counts = np.stack([truth & said, ~truth & said, truth & ~said], axis=1).astype(np.float64)
    involved = truth | said
    undefined = None if involved.any() else "no image is or was said to be of this class"
    return bootstrapped(
        f1(counts.sum(axis=0)[None])[0],
        f1(resamples.sums(counts)),
        replace(Evidence.of(truth, resamples.groups), **size_of(involved, resamples.groups)),
        undefined,
    )
