"""A temperature and first thresholds, with the evidence behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.calibration import temperature
from safevlm_sdk.calibration.bounds import upper_bound
from safevlm_sdk.calibration.scores import Scores, scores_of
from safevlm_sdk.errors import DataError
from safevlm_sdk.manifest import Calibration, Thresholds
from safevlm_training.checkpoint import CheckpointCalibration
from safevlm_training.metrics import Judged
from safevlm_training.recipe import FlagBound

FLOOR = 0.05
STEPS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A bound, and how many of its safe groups the thresholds flag."""

    bound: FlagBound
    flagged: int
    groups: int


def fit_temperature(validation: Judged) -> float:
    """The temperature in [0.1, 10] that minimises the log loss of the types, to 4 decimals.

    Raises:
        DataError: A type has no image in the validation split.
    """
    try:
        return temperature.fit_temperature(validation.type_logits, validation.types, validation.labels)
    except DataError as problem:
        raise DataError(f"the validation split: {problem}") from problem


def score_images(judged: Judged, at_temperature: float) -> Scores:
    """Probabilities at a temperature."""
    return scores_of(judged.type_logits, judged.labels, at_temperature)


def smallest_threshold(worst: NDArray[np.float64], allowed: int) -> float:
    """The smallest threshold of 4 decimals, `FLOOR` at least, that at most `allowed` groups reach.

    Args:
        worst: Largest value of each group.
        allowed: Groups that may reach the threshold.

    Returns:
        It may exceed 1, where no threshold can do it.
    """
    if allowed >= len(worst):
        return FLOOR
    value = float(np.sort(worst)[::-1][allowed])
    step = math.floor(value * STEPS) + 1
    while step / STEPS <= value:
        step += 1
    while (step - 1) / STEPS > value:
        step -= 1
    return max(FLOOR, step / STEPS)


def calibrate(validation: Judged, calibration: Judged, bounds: Sequence[FlagBound]) -> CheckpointCalibration:
    """Temperature from one split, thresholds from the other.

    For each bound all thresholds, on each category and on the score, let through equally many safe groups: the
    largest number at which the groups that any of them flags are at most `flag_at_most` of all. Of several bounds,
    each threshold is the hardest.

    Args:
        validation: For the temperature.
        calibration: For the thresholds.
        bounds: At least one.

    Raises:
        DataError: A type or the safe images are missing, or safe images score 1.
    """
    fitted = fit_temperature(validation)
    scores = score_images(calibration, fitted)
    counted = [_worst(scores, *_safe_groups(calibration, bound.sources)) for bound in bounds]
    chosen = [_choose(worst, bound.flag_at_most) for worst, bound in zip(counted, bounds, strict=True)]
    limits = [max(column) for column in zip(*chosen, strict=True)]
    risky = {group for group, wanted in zip(calibration.groups, calibration.risky, strict=True) if wanted}
    said = [_said(_kept(worst, limits, bound)) for worst, bound in zip(counted, bounds, strict=True)]
    return CheckpointCalibration(
        calibration=Calibration(
            method="temperature",
            temperature=fitted,
            risky_groups=len(risky),
            safe_groups=len({group for bound in bounds for group in _safe_groups(calibration, bound.sources)[1]}),
            note=f"Temperature fitted on the validation split. {' '.join(said)} The bounds are for images like "
            "these, and optimistic because the thresholds were chosen on the same groups.",
        ),
        thresholds=Thresholds(
            categories=dict(zip(calibration.labels[:-1], limits[:-1], strict=True)), any=limits[-1]
        ),
    )


def kept_bounds(calibration: Judged, found: CheckpointCalibration, bounds: Sequence[FlagBound]) -> tuple[Kept, ...]:
    """What the thresholds of `calibrate` do to the groups of each bound."""
    scores = score_images(calibration, found.calibration.temperature)
    limits = [*(found.thresholds.categories[name] for name in calibration.labels[:-1]), found.thresholds.any]
    return tuple(_kept(_worst(scores, *_safe_groups(calibration, bound.sources)), limits, bound) for bound in bounds)


def _kept(worst: NDArray[np.float64], limits: Sequence[float], bound: FlagBound) -> Kept:
    return Kept(bound=bound, flagged=_flagged(worst, limits), groups=len(worst))


def _safe_groups(calibration: Judged, sources: Sequence[str]) -> tuple[NDArray[np.bool_], list[str]]:
    """[N], True for the safe images of the named sources, and the group of each of these."""
    origins = [source.split("/", 1)[0] for source in calibration.sources]
    wanted = ~calibration.risky & np.array([not sources or origin in sources for origin in origins], dtype=bool)
    groups = [group for group, counts in zip(calibration.groups, wanted, strict=True) if counts]
    if not groups:
        of = f" of {', '.join(sources)}" if sources else ""
        raise DataError(f"the calibration split has no safe image{of}; thresholds need some")
    return wanted, groups


def _worst(scores: Scores, wanted: NDArray[np.bool_], groups: Sequence[str]) -> NDArray[np.float64]:
    """[G, C + 1], the largest probability of each risk and the largest score in each group."""
    values = np.column_stack([scores.risks[wanted], scores.score[wanted]])
    names, index = np.unique(np.array(groups, dtype=object).astype(str), return_inverse=True)
    worst = np.zeros((len(names), values.shape[1]))
    np.maximum.at(worst, index, values)
    return worst


def _choose(worst: NDArray[np.float64], flag_at_most: float) -> list[float]:
    """A threshold per column of [G, K], that together flag at most this share of the groups."""
    allowed = math.floor(flag_at_most * len(worst) + 1e-9)
    for each in range(allowed, -1, -1):
        limits = [smallest_threshold(column, each) for column in worst.T]
        if max(limits) <= 1.0 and _flagged(worst, limits) <= allowed:
            return limits
    raise DataError(
        f"more than {allowed} safe groups of the calibration split have a probability of 1, so no threshold can keep "
        "flags that rare; look for wrong labels among them, add safe images of their kind, or raise flag_at_most"
    )


def _flagged(worst: NDArray[np.float64], limits: Sequence[float]) -> int:
    return int((worst >= np.array(limits)).any(axis=1).sum())


def _said(kept: Kept) -> str:
    """One bound, and what the thresholds do to its groups."""
    of = f" of {', '.join(kept.bound.sources)}" if kept.bound.sources else ""
    return (
        f"Thresholds set on the calibration split{of} to flag at most {kept.bound.flag_at_most:.4g} of its safe "
        f"groups: {kept.flagged} of {kept.groups} are flagged; exact one-sided 95 % upper bound "
        f"{upper_bound(kept.flagged, kept.groups):.4g} (Clopper-Pearson)."
    )
