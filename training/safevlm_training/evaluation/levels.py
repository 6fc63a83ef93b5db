"""How well levels are told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.taxonomy import RiskLevel
from safevlm_training.evaluation.figures import class_figures, ranked_figures, size_of
from safevlm_training.evaluation.intervals import Value, rate
from safevlm_training.evaluation.resampling import Evidence, Float, Resamples, bootstrapped
from safevlm_training.evaluation.sample import Sample
from safevlm_training.metrics import confusion

NAMES = tuple(level.name.lower() for level in RiskLevel)
SIZE = len(NAMES)
_DISTANCE = np.abs(np.arange(SIZE)[:, None] - np.arange(SIZE)[None]).astype(np.float64)


def level_figures(sample: Sample, resamples: Resamples) -> dict[str, Any]:
    """Levels as decided (none where nothing was flagged), and what the level head alone says of risky images."""
    truth, said, groups = sample.levels, sample.decided_levels, sample.groups
    everything = np.ones(len(sample), dtype=bool)
    heads = sample.level_logprobs[:, 1:].argmax(axis=1) + 1
    pairs = np.zeros((len(sample), SIZE * SIZE))
    pairs[np.arange(len(sample)), truth * SIZE + said] = 1.0
    totals, draws = pairs.sum(axis=0)[None], resamples.sums(pairs)
    return {
        "accuracy": rate(truth == said, everything, groups, absent="no image"),
        "mean_absolute_error": _value(mean_error(totals), mean_error(draws), sample),
        "quadratic_weighted_kappa": _value(
            kappa(totals), kappa(draws), sample, "one level alone, in truth and decision"
        ),
        "accuracy_of_head_on_risky": rate(heads == truth, sample.risky, groups, absent="no risky image"),
        "labels": list(NAMES),
        "confusion": confusion(truth, said, SIZE),
        "per_level": {name: _one(index, sample, resamples) for index, name in enumerate(NAMES)},
    }


def mean_error(pairs: Float) -> Float:
    """Mean absolute distance [B] of levels, from counts [B, 16] of (truth, decision)."""
    total = pairs.sum(axis=1)
    mean: Float = np.divide(pairs @ _DISTANCE.reshape(-1), total, out=np.full(len(pairs), np.nan), where=total > 0)
    return mean


def kappa(pairs: Float) -> Float:
    """Cohen's kappa [B] with quadratic weights, from counts [B, 16]; NaN where chance leaves nothing to explain."""
    table = pairs.reshape(-1, SIZE, SIZE)
    weights = _DISTANCE**2
    expected = np.einsum("bi,bj,ij->b", table.sum(axis=2), table.sum(axis=1), weights)
    observed = np.einsum("bij,ij->b", table, weights) * table.sum(axis=(1, 2))
    agreement: Float = 1 - np.divide(observed, expected, out=np.full(len(pairs), np.nan), where=expected > 0)
    return agreement


def _one(level: int, sample: Sample, resamples: Resamples) -> dict[str, Any]:
    truth: NDArray[np.bool_] = sample.levels == level
    everything = np.ones(len(sample), dtype=bool)
    share = np.clip(np.exp(sample.level_logprobs[:, level]), 1e-300, None)
    rest = np.clip(-np.expm1(sample.level_logprobs[:, level]), 1e-300, None)
    return {
        **size_of(truth, sample.groups),
        **class_figures(truth, sample.decided_levels == level, resamples),
        **ranked_figures(truth, np.log(share) - np.log(rest), everything, resamples),
    }


def _value(point: Float, draws: Float, sample: Sample, undefined: str | None = None) -> Value:
    evidence = Evidence.of(sample.risky, sample.groups)
    return bootstrapped(point[0], draws, evidence, undefined if np.isnan(point[0]) else None)
