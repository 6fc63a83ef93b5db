"""What a gate gets right and wrong, in numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FPRS = (0.001, 0.01, 0.05)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """Images with their labels and what the gate says of them.

    Attributes:
        labels: Names of the types in logit order, `safe` last.
        type_logits: float64 [N, C + 1].
        level_logprobs: float64 [N, 4].
        types: int64 [N], index of the true type.
        levels: int64 [N], 0 to 3.
        groups: [N], images of one group are not independent.
        sources: [N], names of the sources.
    """

    labels: tuple[str, ...]
    type_logits: NDArray[np.float64]
    level_logprobs: NDArray[np.float64]
    types: NDArray[np.int64]
    levels: NDArray[np.int64]
    groups: Sequence[str]
    sources: Sequence[str]

    @property
    def risky(self) -> NDArray[np.bool_]:
        """[N], True where the true type is a risk."""
        risky: NDArray[np.bool_] = self.types != len(self.labels) - 1
        return risky


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row-wise, of [N, K]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def log_loss(logprobs: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Mean negative log-probability [N, K] of the truth [N]."""
    return float(-logprobs[np.arange(len(truth)), truth].mean())


def auroc(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> float | None:
    """Area under the ROC curve, ties counting half; None when one class is absent."""
    hits, false_alarms = _cumulative(positive, score)
    if hits[-1] == 0 or false_alarms[-1] == 0:
        return None
    heights = (hits[1:] + hits[:-1]) / 2
    return float((heights * np.diff(false_alarms)).sum() / hits[-1] / false_alarms[-1])


def average_precision(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> float | None:
    """Sum over thresholds of precision times the gain in recall; None without positives."""
    hits, false_alarms = _cumulative(positive, score)
    if hits[-1] == 0:
        return None
    precision = hits[1:] / (hits[1:] + false_alarms[1:])
    return float((np.diff(hits) * precision).sum() / hits[-1])


def recall_at_fpr(positive: NDArray[np.bool_], score: NDArray[np.float64], fpr: float) -> float | None:
    """Largest recall of a threshold whose false positive rate is at most `fpr`; None when one class is absent."""
    hits, false_alarms = _cumulative(positive, score)
    if hits[-1] == 0 or false_alarms[-1] == 0:
        return None
    allowed = false_alarms <= fpr * false_alarms[-1]
    return float(hits[allowed].max() / hits[-1])


def confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64], size: int) -> list[list[int]]:
    """Counts; rows are the truth, columns the prediction."""
    counts = np.bincount(truth * size + predicted, minlength=size * size)
    return [[int(count) for count in row] for row in counts.reshape(size, size)]


def ranking(judged: Judged) -> dict[str, float | None]:
    """How well the score P(some risk) tells risky from safe images, and the log loss of types and levels."""
    logprobs = log_softmax(judged.type_logits)
    score = _risk_log_odds(judged)
    types, levels = log_loss(logprobs, judged.types), log_loss(judged.level_logprobs, judged.levels)
    return {
        "auroc": auroc(judged.risky, score),
        "average_precision": average_precision(judged.risky, score),
        **{f"recall_at_fpr_{fpr:g}": recall_at_fpr(judged.risky, score, fpr) for fpr in FPRS},
        "type_log_loss": types,
        "level_log_loss": levels,
        "loss": types + levels,
    }


def evaluate(judged: Judged) -> dict[str, Any]:
    """Everything that can be said without thresholds, as plain values with sample sizes.

    A category's AUROC and average precision compare its images with the safe ones.
    """
    risky = judged.risky
    predicted = judged.type_logits.argmax(axis=1).astype(np.int64)
    graded = judged.level_logprobs.argmax(axis=1)
    decided = judged.level_logprobs[risky, 1:].argmax(axis=1) + 1  # a decision chooses among LOW, MEDIUM and HIGH
    logits = judged.type_logits
    per_category = {}
    for index, category in enumerate(judged.labels[:-1]):
        among = ~risky | (judged.types == index)
        truth, score = judged.types[among] == index, (logits[:, index] - logits[:, -1])[among]
        per_category[category] = {
            "images": int(truth.sum()),
            "groups": _distinct(judged.groups, judged.types == index),
            "auroc": auroc(truth, score),
            "average_precision": average_precision(truth, score),
        }
    return {
        "images": len(judged.types),
        "risky_images": int(risky.sum()),
        "safe_images": int((~risky).sum()),
        "risky_groups": _distinct(judged.groups, risky),
        "safe_groups": _distinct(judged.groups, ~risky),
        **ranking(judged),
        "type_accuracy": _mean(predicted == judged.types),
        "level_accuracy": _mean(graded == judged.levels),
        "level_accuracy_of_risky": _mean(decided == judged.levels[risky]),
        "labels": list(judged.labels),
        "confusion": confusion(judged.types, predicted, len(judged.labels)),
        "categories": per_category,
    }


def flag_rates(judged: Judged, flagged: NDArray[np.bool_]) -> dict[str, Any]:
    """What the thresholds do: recall per category and false positives per source, with sample sizes.

    Args:
        judged: The images.
        flagged: [N], True where the gate flags.
    """
    safe = ~judged.risky
    sources = np.array(judged.sources, dtype=object)
    recall = {}
    for index, category in enumerate(judged.labels[:-1]):
        truth = judged.types == index
        recall[category] = {"images": int(truth.sum()), "recall": _mean(flagged[truth])}
    false_positives = {}
    for source in sorted(set(judged.sources)):
        here = safe & (sources == source)
        if here.any():
            rate = _mean(flagged[here])
            false_positives[source] = {
                "safe_images": int(here.sum()),
                "flagged": int(flagged[here].sum()),
                "rate": rate,
            }
    return {
        "recall": {"images": int(judged.risky.sum()), "recall": _mean(flagged[judged.risky])},
        "false_positives": {
            "safe_images": int(safe.sum()),
            "flagged": int(flagged[safe].sum()),
            "rate": _mean(flagged[safe]),
        },
        "recall_per_category": recall,
        "false_positives_per_source": false_positives,
    }


def _risk_log_odds(judged: Judged) -> NDArray[np.float64]:
    """log(P(some risk) / P(safe)): orders images as the score does, and does not saturate at 1."""
    risks = judged.type_logits[:, :-1]
    top = risks.max(axis=1)
    odds: NDArray[np.float64] = top + np.log(np.exp(risks - top[:, None]).sum(axis=1)) - judged.type_logits[:, -1]
    return odds


def _cumulative(
    positive: NDArray[np.bool_], score: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positives and negatives at or above each distinct score, from the highest down, starting with (0, 0)."""
    order = np.argsort(-score, kind="stable")
    last_of_ties = (
        np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1) if len(score) else np.empty(0, int)
    )
    hits = np.cumsum(positive[order])[last_of_ties]
    return np.append(0, hits), np.append(0, last_of_ties + 1 - hits)


def _distinct(groups: Sequence[str], chosen: NDArray[np.bool_]) -> int:
    return len({group for group, wanted in zip(groups, chosen, strict=True) if wanted})


def _mean(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None
