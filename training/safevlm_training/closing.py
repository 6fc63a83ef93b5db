"""What a training run says at its end: what set the thresholds, and what that can show."""

from __future__ import annotations

from collections.abc import Sequence

from safevlm_sdk.calibration.bounds import CONFIDENCE, groups_needed, upper_bound
from safevlm_sdk.calibration.choose import SMALLEST
from safevlm_sdk.calibration.temperature import TEMPERATURES
from safevlm_training.checkpoint import CARD_FILE, CheckpointCalibration
from safevlm_training.metrics import Judged
from safevlm_training.recipe import FlagBound
from safevlm_training.thresholds import Kept, kept_bounds

NEAR = 1e-3


def closing_lines(calibration: Judged, found: CheckpointCalibration, bounds: Sequence[FlagBound]) -> tuple[str, ...]:
    """Lines for a person.

    Args:
        calibration: What the trained gate says of the calibration split.
        found: Temperature and thresholds.
        bounds: That were asked for.
    """
    return (
        _counts(calibration),
        *(_bound(kept) for kept in kept_bounds(calibration, found, bounds)),
        *_temperature(found.calibration.temperature),
        f"read {CARD_FILE} in the checkpoint: what it covers, every figure, and where its limits are",
    )


def _counts(calibration: Judged) -> str:
    counted = []
    for index, label in enumerate(calibration.labels):
        groups = [group for group, kind in zip(calibration.groups, calibration.types, strict=True) if kind == index]
        counted.append(f"{len(groups)} images of {label} in {len(set(groups))} independent groups")
    return (
        f"calibration split: {', '.join(counted)}; the safe ones set the thresholds, the others only measure misses"
    )


def _bound(kept: Kept) -> str:
    """One bound: asked for, counted, shown."""
    asked, of = kept.bound.flag_at_most, f" from {', '.join(kept.bound.sources)}" if kept.bound.sources else ""
    shown = upper_bound(kept.flagged, kept.groups)
    said = (
        f"asked: flag at most {_percent(asked)} of the safe groups{of}; the thresholds flag {kept.flagged} of "
        f"{kept.groups}, which shows at most {_percent(shown)} (at {_percent(CONFIDENCE)} confidence)"
    )
    if shown <= asked:
        return said
    if upper_bound(0, kept.groups) <= asked:
        return f"{said}: what was asked is kept on these images, and not shown; `safevlm calibrate` shows it"
    if asked < SMALLEST:
        return f"{said}: no number of images shows so small a share"
    return (
        f"{said}: so few groups cannot show {_percent(asked)}, whatever the model; that takes {groups_needed(asked)} "
        "groups of safe images without a flag"
    )


def _temperature(temperature: float) -> tuple[str, ...]:
    low, high = TEMPERATURES
    if temperature >= high - NEAR:
        return (
            f"temperature {temperature:g} is the highest that is tried: on the validation split the scores are far "
            "too sure, or say next to nothing; add images, or train for fewer epochs",
        )
    if temperature <= low + NEAR:
        return (
            f"temperature {temperature:g} is the lowest that is tried: the validation split tells safe from risky "
            "without an error, so it is small or easy, and probabilities are near 0 or 1; add harder images",
        )
    return ()


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
