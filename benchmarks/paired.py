"""Statistics of a run in which several contenders take turns on the same images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


def percentiles(values: Times) -> list[float]:
    """p50, p95 and p99."""
    return [float(value) for value in np.percentile(values, (50, 95, 99))]


def turn(contenders: int, visit: int) -> list[int]:
    """In what order the contenders run at one visit to an image: a row of a Williams design.

    Over `2 * contenders` visits in a row each of them runs equally often in each place, and equally often right after
    each of the others, so that what one leaves behind (a cold cache, a spinning thread) is spread over all.
    """
    zigzag = [(place + 1) // 2 if place % 2 else -(place // 2) for place in range(contenders)]
    row = [(start + visit) % contenders for start in zigzag]
    return row[::-1] if visit // contenders % 2 else row


def paired_ratios(ours: Times, theirs: Times) -> Times:
    """One ratio per image: the median over the rounds of ours / theirs, both [rounds, images]."""
    return np.asarray(np.median(ours / theirs, axis=0), dtype=np.float64)


def median_interval(values: Times, *, resamples: int = 10_000, seed: int = 0) -> tuple[float, float, float]:
    """(median, low, high): a percentile bootstrap interval of 95 % over the values."""
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    low, high = np.percentile(np.median(values[drawn], axis=1), (2.5, 97.5))
    return float(np.median(values)), float(low), float(high)


def claim(upper_ends: Sequence[float | None], limit: float) -> bool | None:
    """Whether every ratio's interval lies below the limit; None where a ratio was not measured, or there is none."""
    known = [end for end in upper_ends if end is not None]
    if not known or len(known) < len(upper_ends):
        return None
    return all(end < limit for end in known)
