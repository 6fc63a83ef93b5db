"""A number with its interval, and exact intervals of rates.

Three ways to an interval, named in `Value.method`:

    exact              Clopper and Pearson's, where every group holds one image
    exact_effective    theirs with the effective sample size of Korn and Graubard (Survey Methodology 24, 1998), where
                       images of one group are alike: the number of images that independent ones would need for the
                       same variance, less for few groups. Nothing or everything hit counts groups, not images, so
                       that no interval is [0, 0]
    cluster_bootstrap  whole groups drawn again, see `resampling`; for what is no rate
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from safevlm_sdk.calibration.bounds import lower_bound, upper_bound

CONFIDENCE = 0.95
Method = Literal["exact", "exact_effective", "cluster_bootstrap", "none"]


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """A figure.

    Attributes:
        value: None where it is not defined; `note` then says why.
        low: Lower end of the two-sided 95 % interval.
        high: Upper end.
        method: How the interval was made.
        images: That it rests on; of a rate, the denominator.
        groups: Distinct groups among them.
        count: Of a rate, the numerator.
        note: What must be known to read it.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    method: Method = "none"
    images: int
    groups: int
    count: int | None = None
    note: str | None = None


def undefined(note: str, *, images: int = 0, groups: int = 0) -> Value:
    """A figure that these images cannot give."""
    return Value(value=None, images=images, groups=groups, note=note)


def rate(
    hits: NDArray[np.bool_],
    among: NDArray[np.bool_],
    groups: NDArray[np.int64],
    *,
    absent: str,
    note: str | None = None,
) -> Value:
    """The share of `hits` [N] among the images [N], of `groups` [N]; `absent` says why there may be none."""
    images = int(among.sum())
    if images == 0:
        return undefined(absent)
    sizes = np.bincount(groups[among])
    counts = np.bincount(groups[among], weights=hits[among])[sizes > 0].astype(np.float64)
    sizes = sizes[sizes > 0].astype(np.int64)
    count, number = int(hits[among].sum()), len(sizes)
    share = count / images
    if number == images:
        low, high = clopper_pearson(count, images)
        method: Method = "exact"
    elif number == 1:
        alone = f"all {images} images are of one group, which gives no interval"
        return Value(value=share, images=images, groups=1, count=count, note=alone)
    else:
        size = effective_size(counts, sizes)
        low, high = clopper_pearson(share * size, size)
        method = "exact_effective"
    return Value(value=share, low=low, high=high, method=method, images=images, groups=number, count=count, note=note)


def clopper_pearson(count: float, size: float) -> tuple[float, float]:
    """The two-sided interval of a rate; neither number need be whole."""
    one_sided = (1 + CONFIDENCE) / 2
    return lower_bound(count, size, one_sided), upper_bound(count, size, one_sided)


def effective_size(counts: NDArray[np.float64], sizes: NDArray[np.int64]) -> float:
    """How many independent images would tell as much, from hits [G] and images [G] of two or more groups."""
    groups, images = len(sizes), int(sizes.sum())
    share = counts.sum() / images
    if share in (0.0, 1.0):
        return float(groups)
    residuals = counts - share * sizes
    variance = groups / (groups - 1) * (residuals**2).sum() / images**2
    if variance == 0.0:
        return float(images)
    quantile = (1 + CONFIDENCE) / 2
    fewness = (t.ppf(quantile, images - 1) / t.ppf(quantile, groups - 1)) ** 2
    return float(min(images, share * (1 - share) / variance * fewness))
