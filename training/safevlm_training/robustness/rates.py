"""A rate with its sample size and its exact interval."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from safevlm_sdk.calibration.bounds import lower_bound, upper_bound

ONE_SIDED = 0.975  # both bounds together then hold with 95 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many of how many images, with the exact two-sided 95 % interval (Clopper-Pearson).

    The interval takes the images for independent.

    Attributes:
        count: Images of which it is true.
        images: Images looked at.
        rate: None without images.
        low: Of the interval.
        high: Of the interval.
    """

    count: int
    images: int
    rate: float | None
    low: float
    high: float


def rate_of(outcomes: Iterable[bool]) -> Rate:
    """The rate at which `outcomes` are true."""
    seen = list(outcomes)
    count, images = sum(seen), len(seen)
    if not images:
        return Rate(count=0, images=0, rate=None, low=0.0, high=1.0)
    low, high = (bound(count, images, ONE_SIDED) for bound in (lower_bound, upper_bound))
    return Rate(count=count, images=images, rate=count / images, low=low, high=high)


def mean(values: Iterable[float]) -> float | None:
    """None without values."""
    seen = list(values)
    return sum(seen) / len(seen) if seen else None
