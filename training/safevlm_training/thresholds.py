"""A temperature and first thresholds, with the evidence behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import beta

from safevlm_sdk.decision import Rule, probabilities
from safevlm_sdk.errors import DataError
from safevlm_sdk.manifest import Calibration, Thresholds
from safevlm_sdk.taxonomy import SAFE
from safevlm_training.checkpoint import CheckpointCalibration
from safevlm_training.metrics import Judged, log_loss, log_softmax

FLOOR = 0.05
CONFIDENCE = 0.95
STEPS = 10_000
TEMPERATURES = (0.1, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Calibrated probabilities, computed as a decision computes them.

    Attributes:
        risks: [N, C], in logit order.
        score: [N], 1 - P(safe).
    """

    risks: NDArray[np.float64]
    score: NDArray[np.float64]

    def flagged(self, labels: Sequence[str], thresholds: Thresholds) -> NDArray[np.bool_]:
        """[N], True where some threshold is reached."""
        limits = np.array([thresholds.categories[label] for label in labels[:-1]])
        flags: NDArray[np.bool_] = (self.risks >= limits).any(axis=1) | (self.score >= thresholds.any)
        return flags


def fit_temperature(validation: Judged) -> float:
    """The temperature in [0.1, 10] that minimises the log loss of the types, to 4 decimals.

    Raises:
        DataError: A type has no image in the validation split.
    """
    absent = sorted(set(range(len(validation.labels))) - set(validation.types.tolist()))
    if absent:
        names = ", ".join(validation.labels[index] for index in absent)
        raise DataError(f"the validation split has no image of {names}; a temperature needs every type, add some")

    def loss(log_temperature: float) -> float:
        return log_loss(log_softmax(validation.type_logits / math.exp(log_temperature)), validation.types)

    low, high = TEMPERATURES
    found = minimize_scalar(loss, bounds=(math.log(low), math.log(high)), method="bounded", options={"xatol": 1e-6})
    return round(min(high, max(low, math.exp(found.x))), 4)


def score_images(judged: Judged, temperature: float) -> Scores:
    """Probabilities at a temperature."""
    any_value = dict.fromkeys(judged.labels[:-1], 1.0)
    rule = Rule(
        labels=judged.labels, activation="softmax", temperature=temperature, thresholds=any_value, any_threshold=1.0
    )
    rows = [probabilities(logits, rule) for logits in judged.type_logits]
    risks = np.array([[row[label] for label in judged.labels[:-1]] for row in rows]).reshape(len(rows), -1)
    return Scores(risks=risks, score=np.array([min(1.0, max(0.0, 1.0 - row[SAFE])) for row in rows]))


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


def upper_bound(flagged: int, groups: int, confidence: float = CONFIDENCE) -> float:
    """Exact one-sided upper bound (Clopper-Pearson) on a rate of which `flagged` in `groups` were seen."""
    return 1.0 if flagged >= groups else float(beta.ppf(confidence, flagged + 1, groups - flagged))


def calibrate(
    validation: Judged, calibration: Judged, *, flag_at_most: float, sources: Sequence[str]
) -> CheckpointCalibration:
    """Temperature from one split, thresholds from the other.

    All thresholds, on each category and on the score, let through equally many safe groups: the largest number at
    which the groups that any of them flags are at most `flag_at_most` of all.

    Args:
        validation: For the temperature.
        calibration: For the thresholds.
        flag_at_most: Share of safe groups.
        sources: Names of the recipe's sources whose safe images count; empty for all.

    Raises:
        DataError: A type or the safe images are missing, or safe images score 1.
    """
    temperature = fit_temperature(validation)
    scores = score_images(calibration, temperature)
    origins = [source.split("/", 1)[0] for source in calibration.sources]
    counted = ~calibration.risky & np.array([not sources or origin in sources for origin in origins], dtype=bool)
    groups = [group for group, wanted in zip(calibration.groups, counted, strict=True) if wanted]
    if not groups:
        raise DataError("the calibration split has no safe image of the named sources; thresholds need some")
    values = np.column_stack([scores.risks[counted], scores.score[counted]])
    limits, flagged = _choose(_worst(values, groups), math.floor(flag_at_most * len(set(groups)) + 1e-9))
    risky = {group for group, wanted in zip(calibration.groups, calibration.risky, strict=True) if wanted}
    return CheckpointCalibration(
        calibration=Calibration(
            method="temperature",
            temperature=temperature,
            risky_groups=len(risky),
            safe_groups=len(set(groups)),
            note=_note(flagged, len(set(groups)), flag_at_most, sources),
        ),
        thresholds=Thresholds(
            categories=dict(zip(calibration.labels[:-1], limits[:-1], strict=True)), any=limits[-1]
        ),
    )


def _worst(values: NDArray[np.float64], groups: Sequence[str]) -> NDArray[np.float64]:
    """[G, K], the largest of each column per group, from [N, K]."""
    names, index = np.unique(np.array(groups, dtype=object).astype(str), return_inverse=True)
    worst = np.zeros((len(names), values.shape[1]))
    np.maximum.at(worst, index, values)
    return worst


def _choose(worst: NDArray[np.float64], allowed: int) -> tuple[list[float], int]:
    """A threshold per column of [G, K], and how many groups they flag together."""
    for each in range(allowed, -1, -1):
        limits = [smallest_threshold(column, each) for column in worst.T]
        flagged = int((worst >= np.array(limits)).any(axis=1).sum())
        if max(limits) <= 1.0 and flagged <= allowed:
            return limits, flagged
    raise DataError(
        f"more than {allowed} safe groups of the calibration split have a probability of 1, so no threshold can keep "
        "flags that rare; look for wrong labels among them, add safe images of their kind, or raise flag_at_most"
    )


def _note(flagged: int, groups: int, flag_at_most: float, sources: Sequence[str]) -> str:
    of = f" of {', '.join(sources)}" if sources else ""
    return (
        f"Temperature fitted on the validation split. Thresholds set on the calibration split{of} to flag at most "
        f"{flag_at_most:.4g} of its safe groups: {flagged} of {groups} are flagged; exact one-sided 95 % upper bound "
        f"{upper_bound(flagged, groups):.4g} (Clopper-Pearson), for images like these, and optimistic because the "
        "thresholds were chosen on the same groups."
    )
