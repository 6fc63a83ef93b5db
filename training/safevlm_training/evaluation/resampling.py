"""The cluster bootstrap: whole groups drawn again, separately among the groups of each label.

Percentiles of few groups are too narrow; they are widened as Hesterberg (The American Statistician 69, 2015) does:
the tail is that of Student's t with as many degrees of freedom as the rarer label has groups, less one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from safevlm_training.evaluation.intervals import CONFIDENCE, Value, undefined

RESAMPLES = 1000
SEED = 0
CELLS = 4_000_000  # resamples x images that are worked on at once
UNDEFINED_SHARE = 0.1

Float = NDArray[np.float64]
Weighted = Callable[[Float], Float]
"""From weights [B, N] of images to statistics [B, K]; NaN where one is not defined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """How many images and groups a figure rests on; `rarer` counts the groups of the label that has fewest."""

    images: int
    groups: int
    rarer: int

    @classmethod
    def of(cls, truth: NDArray[np.bool_], groups: NDArray[np.int64]) -> Evidence:
        """For figures of one class [N] against the others; a label without any image does not count."""
        sizes = [len(np.unique(groups[one])) for one in (truth, ~truth) if one.any()]
        return cls(images=len(truth), groups=len(np.unique(groups)), rarer=min(sizes, default=0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resamples:
    """How often each group was drawn.

    Attributes:
        groups: int64 [N], group of each image, from 0 to G - 1.
        counts: uint16 [B, G].
    """

    groups: NDArray[np.int64]
    counts: NDArray[np.uint16]

    def draw(self, statistics: Weighted, rows: NDArray[np.int64]) -> Float:
        """Statistics [B, K] of the images `rows` in every resample."""
        step = max(1, CELLS // max(1, len(rows)))
        places = self.groups[rows]
        parts = [
            statistics(self.counts[start : start + step][:, places].astype(np.float64))
            for start in range(0, len(self.counts), step)
        ]
        return np.concatenate(parts)

    def sums(self, values: Float) -> Float:
        """Sums [B, K] over the images of `values` [N, K] in every resample."""
        per_group = np.zeros((self.counts.shape[1], values.shape[1]))
        np.add.at(per_group, self.groups, values)
        total: Float = self.counts.astype(np.float64) @ per_group
        return total


def resample(
    groups: NDArray[np.int64], types: NDArray[np.int64], *, count: int = RESAMPLES, seed: int = SEED
) -> Resamples:
    """Draws groups with replacement, as many as there are, among those that hold the same labels.

    Args:
        groups: [N], from 0 to G - 1.
        types: [N], label of each image.
        count: B.
        seed: Of the draws.
    """
    number = int(groups.max()) + 1
    holds = np.zeros((number, int(types.max()) + 1), dtype=np.bool_)
    holds[groups, types] = True
    strata = np.unique(holds, axis=0, return_inverse=True)[1].reshape(-1)
    generator = np.random.default_rng(seed)
    counts = np.zeros((count, number), dtype=np.uint16)
    for stratum in range(int(strata.max()) + 1):
        members = np.flatnonzero(strata == stratum)
        counts[:, members] = generator.multinomial(len(members), np.full(len(members), 1 / len(members)), size=count)
    return Resamples(groups=groups, counts=counts)


def bootstrapped(value: float, draws: Float, evidence: Evidence, note: str | None = None) -> Value:
    """A figure with the percentile interval of its draws [B].

    Args:
        value: On the images themselves; NaN is undefined, and `note` says why.
        draws: The same in every resample.
        evidence: What it rests on.
        note: For the reader.
    """
    images, groups = evidence.images, evidence.groups
    if not np.isfinite(value):
        return undefined(note or "not defined on these images", images=images, groups=groups)
    known = draws[np.isfinite(draws)]
    reason = None
    if evidence.rarer < 2:
        reason = "one group of a label gives no interval"
    elif len(known) < (1 - UNDEFINED_SHARE) * len(draws):
        reason = "not defined in too many resamples for an interval"
    elif known.min() == known.max():
        reason = "equal in every resample, which gives no interval"
    if reason is not None:
        return Value(value=float(value), images=images, groups=groups, note="; ".join(filter(None, (note, reason))))
    share = tail(evidence.rarer)
    low, high = np.quantile(known, [share, 1 - share])
    return Value(
        value=float(value),
        low=float(low),
        high=float(high),
        method="cluster_bootstrap",
        images=images,
        groups=groups,
        note=note,
    )


def tail(groups: int) -> float:
    """The share of draws to leave out at each end, for so many groups (two or more)."""
    reach = np.sqrt(groups / (groups - 1)) * t.ppf((1 + CONFIDENCE) / 2, groups - 1)
    return float(norm.cdf(-reach))
