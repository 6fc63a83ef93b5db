"""Exact binomial bounds on the rate of an error, from counts of independent groups of images."""

from __future__ import annotations

import math

from scipy.special import bdtr, betainc, betaincinv

CONFIDENCE = 0.95
MAX_GROUPS = 2**40


def upper_bound(errors: float, groups: float, confidence: float = CONFIDENCE) -> float:
    """Exact one-sided upper bound (Clopper-Pearson) on a rate of which `errors` in `groups` were seen."""
    return 1.0 if errors >= groups else float(betaincinv(errors + 1, groups - errors, confidence))


def lower_bound(errors: float, groups: float, confidence: float = CONFIDENCE) -> float:
    """Exact one-sided lower bound (Clopper-Pearson) on a rate of which `errors` in `groups` were seen."""
    return 0.0 if errors <= 0 else float(betaincinv(errors, groups - errors + 1, 1.0 - confidence))


def allowed_errors(groups: int, at_most: float, confidence: float = CONFIDENCE) -> int | None:
    """The largest number of errors in `groups` that still shows a rate of at most `at_most`.

    It depends on no outcome, so that it may be used to choose a threshold: were the rate above `at_most`, so few
    errors would be seen with a probability of at most 1 - `confidence`.

    Returns:
        None where even no error at all would not show it.
    """
    if not _shows(0, groups, at_most, confidence):
        return None
    low, high = 0, groups
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _shows(middle, groups, at_most, confidence) else (low, middle)
    return low


def groups_needed(at_most: float, confidence: float = CONFIDENCE, errors: int = 0) -> int:
    """The smallest number of groups of which `errors` errors show a rate of at most `at_most`."""
    low, high = errors, max(1, errors)
    while not _shows(errors, high, at_most, confidence):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _shows(errors, middle, at_most, confidence) else (middle, high)
    return high


def groups_needed_at(rate: float, at_most: float, confidence: float = CONFIDENCE) -> int | None:
    """About how many groups would show `at_most` if errors went on at `rate`; None if no number would."""
    if rate >= at_most:
        return None
    groups = groups_needed(at_most, confidence)
    while groups < MAX_GROUPS and not _shows(math.ceil(rate * groups), groups, at_most, confidence):
        groups = math.ceil(groups * 1.05)
    return groups if groups < MAX_GROUPS else None


def errors_that_agree(groups: int, at_most: float, confidence: float = CONFIDENCE) -> int:
    """The most errors in `groups` new ones that do not refute a rate of `at_most`: chance alone gives as many."""
    low, high = -1, groups
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if float(bdtr(middle, groups, at_most)) >= confidence else (middle, high)
    return high


def _shows(errors: int, groups: int, at_most: float, confidence: float) -> bool:
    """Whether P(at most `errors` errors) <= 1 - confidence when the rate is `at_most`."""
    # By the incomplete beta function, for scipy's binomial counts no more than 2^31 groups.
    return errors < groups and float(betainc(groups - errors, errors + 1, 1.0 - at_most)) <= 1.0 - confidence
