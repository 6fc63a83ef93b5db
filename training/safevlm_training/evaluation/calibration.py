"""Whether a probability means what it says, on the mix of images at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from safevlm_training.evaluation.intervals import Value, rate
from safevlm_training.evaluation.resampling import Evidence, Float, Resamples, bootstrapped
from safevlm_training.evaluation.sample import sigmoid

BINS = 10


def calibration_figures(truth: NDArray[np.bool_], odds: Float, resamples: Resamples) -> dict[str, Any]:
    """Expected calibration error, Brier score, log loss and reliability curve of one class.

    Args:
        truth: [N].
        odds: [N], log-odds of the probability that is judged.
        resamples: Of the images.
    """
    probability = sigmoid(odds)
    places = equal_mass(probability)
    number = int(places.max()) + 1
    inside = np.eye(number)[places]
    gaps = inside * (truth - probability)[:, None]
    brier = (probability - truth) ** 2
    loss = np.logaddexp(0.0, np.where(truth, -odds, odds))
    columns = np.column_stack([np.ones(len(truth)), brier, loss, gaps])
    points, draws = columns.sum(axis=0)[None], resamples.sums(columns)
    groups = resamples.groups
    evidence = Evidence.of(truth, groups)

    def mean(column: int) -> Value:
        return bootstrapped(points[0, column] / len(truth), draws[:, column] / draws[:, 0], evidence)

    return {
        "expected_calibration_error": bootstrapped(error(points)[0], error(draws), evidence),
        "brier": mean(1),
        "log_loss": mean(2),
        "mean_probability": float(probability.mean()),
        "share_of_class": float(truth.mean()),
        "reliability": [_bin(places == place, truth, probability, groups) for place in range(number)],
    }


def error(sums: Float) -> Float:
    """Expected calibration error [B] from [B, 3 + bins]: images first, sums of truth less probability last."""
    total: Float = np.abs(sums[:, 3:]).sum(axis=1) / sums[:, 0]
    return total


def equal_mass(probability: Float) -> NDArray[np.int64]:
    """Bin [N] of each image: equally many in each, but for equal probabilities, which stay together."""
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, BINS + 1)[1:-1], method="lower"))
    return np.unique(np.searchsorted(edges, probability, side="right"), return_inverse=True)[1].reshape(-1)


def _bin(
    inside: NDArray[np.bool_], truth: NDArray[np.bool_], probability: Float, groups: NDArray[np.int64]
) -> dict[str, Any]:
    return {
        "low": float(probability[inside].min()),
        "high": float(probability[inside].max()),
        "mean_probability": float(probability[inside].mean()),
        "observed": rate(truth, inside, groups, absent="no image"),
    }
