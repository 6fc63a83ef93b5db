"""Figures that need no threshold, for weighted images: one sort serves every resample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from safevlm_training.evaluation.intervals import Value, clopper_pearson, rate, undefined
from safevlm_training.evaluation.resampling import Evidence, Float, Resamples, Weighted, bootstrapped
from safevlm_training.metrics import FPRS

POINTS = 200
_ROUNDING = 1e-9


class Ranked:
    """Images sorted by their score, the highest first.

    Args:
        positive: [N].
        score: [N]; ties count as one threshold.
    """

    def __init__(self, positive: NDArray[np.bool_], score: Float) -> None:
        self.order = np.argsort(-score, kind="stable")
        self.positive = positive[self.order].astype(np.float64)
        self.score = score[self.order]
        with np.errstate(invalid="ignore"):  # infinite scores are equal, although their difference is NaN
            self.last = np.append(np.flatnonzero(self.score[1:] != self.score[:-1]), len(score) - 1)

    def cumulative(self, weights: Float) -> tuple[Float, Float]:
        """Positives and negatives [B, S + 1] at or above each distinct score, from weights [B, N]; starts with 0."""
        ordered = weights[:, self.order]
        return _from_zero(ordered * self.positive, self.last), _from_zero(ordered * (1 - self.positive), self.last)

    def statistics(self, weights: Float) -> Float:
        """AUROC, average precision, and recall at each of `FPRS`: [B, 2 + len(FPRS)]; NaN where undefined."""
        hits, alarms = self.cumulative(weights)
        columns = [_auroc(hits, alarms), _average_precision(hits, alarms)]
        columns += [recall_at(hits, alarms, np.full(len(hits), fpr)) for fpr in FPRS]
        return np.stack(columns, axis=1)


def recall_at(hits: Float, alarms: Float, fpr: Float) -> Float:
    """Largest recall [B] of a threshold whose false-positive rate is at most `fpr` [B]."""
    allowed = alarms <= (fpr * alarms[:, -1])[:, None] + _ROUNDING
    best = np.where(allowed, hits, 0.0).max(axis=1)
    return _ratio(np.where(alarms[:, -1] > 0, best, np.nan), hits[:, -1])


def paired(gate: Ranked, probe: Ranked, flagged: NDArray[np.bool_]) -> Weighted:
    """What tells a gate from a probe on the same images: [B, 2].

    AUROC of the gate less that of the probe, and the probe's recall at the gate's false-positive rate: the threshold
    is chosen on these images, in favour of the probe.
    """
    alarm = flagged[gate.order] * (1 - gate.positive)

    def statistics(weights: Float) -> Float:
        hits, alarms = probe.cumulative(weights)
        difference = _auroc(*gate.cumulative(weights)) - _auroc(hits, alarms)
        fpr = _ratio((weights[:, gate.order] * alarm).sum(axis=1), alarms[:, -1])
        return np.stack([difference, recall_at(hits, alarms, fpr)], axis=1)

    return statistics


def rank_figures(
    positive: NDArray[np.bool_], score: Float, rows: NDArray[np.int64], resamples: Resamples
) -> dict[str, Any]:
    """AUROC, average precision and recall at fixed false-positive rates among the images `rows`."""
    truth, groups = positive[rows], resamples.groups[rows]
    evidence = Evidence.of(truth, groups)
    absent = _absent(truth)
    if absent is not None:
        empty = undefined(absent, images=evidence.images, groups=evidence.groups)
        return {"auroc": empty, "average_precision": empty, "recall_at_fpr": {f"{fpr:g}": empty for fpr in FPRS}}
    ranked = Ranked(truth, score[rows])
    values = ranked.statistics(np.ones((1, len(rows))))[0]
    draws = resamples.draw(ranked.statistics, rows)
    found = [bootstrapped(value, draw, evidence) for value, draw in zip(values, draws.T, strict=True)]
    recalls = {
        f"{fpr:g}": _recall(value, fpr, truth, score[rows], groups)
        for fpr, value in zip(FPRS, found[2:], strict=True)
    }
    return {"auroc": _bounded(found[0], evidence.rarer), "average_precision": found[1], "recall_at_fpr": recalls}


def curves(positive: NDArray[np.bool_], score: Float, rows: NDArray[np.int64]) -> dict[str, list[list[float]]] | None:
    """Corners of the ROC curve (false-positive rate, recall) and of the PR curve (recall, precision), thinned."""
    truth = positive[rows]
    if _absent(truth) is not None:
        return None
    hits, alarms = (one[0] for one in Ranked(truth, score[rows]).cumulative(np.ones((1, len(rows)))))
    recall, fpr = hits / hits[-1], alarms / alarms[-1]
    precision = np.append(1.0, hits[1:] / (hits[1:] + alarms[1:]))
    return {"roc": _thinned(fpr, recall), "pr": _thinned(recall, precision)}


def _absent(truth: NDArray[np.bool_]) -> str | None:
    if not truth.any():
        return "no image of this class"
    return "no image of another class" if truth.all() else None


def _bounded(value: Value, rarer: int) -> Value:
    """An interval where the classes are apart in every resample: disjoint pairs are independent, and all agree."""
    if value.value not in (0.0, 1.0) or rarer < 2:
        return value
    low, high = clopper_pearson(value.value * rarer, rarer)
    note = f"perfectly apart here: the exact bound of {rarer} disjoint pairs of groups"
    return Value(
        value=value.value, low=low, high=high, method="exact", images=value.images, groups=value.groups, note=note
    )


def _recall(value: Value, fpr: float, truth: NDArray[np.bool_], score: Float, groups: NDArray[np.int64]) -> Value:
    """Recall with the number of positives, and a warning where the negatives are too few for such a rate."""
    negatives = int((~truth).sum())
    few = f"{negatives} negatives show no rate of {fpr:g}: this is the recall without any false positive"
    note = few if fpr * negatives < 1 else None
    if value.low is None and value.value in (0.0, 1.0):
        return rate(np.full(len(truth), value.value == 1.0), truth, groups, absent="", note=note)
    count = round((value.value or 0.0) * int(truth.sum()))
    return Value(
        value=value.value, low=value.low, high=value.high, method=value.method,
        images=int(truth.sum()), groups=len(np.unique(groups[truth])), count=count,
        note="; ".join(filter(None, (value.note, note))) or None,
    )  # fmt: skip


def _auroc(hits: Float, alarms: Float) -> Float:
    heights = (hits[:, 1:] + hits[:, :-1]) / 2
    return _ratio((heights * np.diff(alarms)).sum(axis=1), hits[:, -1] * alarms[:, -1])


def _average_precision(hits: Float, alarms: Float) -> Float:
    above = hits[:, 1:] + alarms[:, 1:]
    precision = np.divide(hits[:, 1:], above, out=np.zeros_like(above), where=above > 0)
    return _ratio((np.diff(hits) * precision).sum(axis=1), hits[:, -1])


def _from_zero(values: Float, last: NDArray[np.int64]) -> Float:
    total = np.zeros((len(values), len(last) + 1))
    total[:, 1:] = np.cumsum(values, axis=1)[:, last]
    return total


def _ratio(above: Float, below: Float) -> Float:
    ratio: Float = np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)
    return ratio


def _thinned(x: Float, y: Float) -> list[list[float]]:
    """The points where a line turns, and of them at most `POINTS`."""
    corners = _corners(x, y)
    if len(corners) > POINTS:
        corners = corners[np.unique(np.linspace(0, len(corners) - 1, POINTS).round().astype(int))]
    return [[round(float(x[i]), 6), round(float(y[i]), 6)] for i in corners]


def _corners(x: Float, y: Float) -> NDArray[np.int64]:
    dx, dy = np.diff(x), np.diff(y)
    turns = np.flatnonzero(np.abs(dx[:-1] * dy[1:] - dx[1:] * dy[:-1]) > 1e-15) + 1
    return np.concatenate([[0], turns, [len(x) - 1]]).astype(np.int64)
