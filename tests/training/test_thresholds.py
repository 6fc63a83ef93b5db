from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from safevlm_sdk.calibration.bounds import upper_bound
from safevlm_sdk.decision import Rule, decide
from safevlm_sdk.errors import DataError
from safevlm_sdk.policy import Action, parse_policy
from safevlm_training.metrics import Judged, log_loss, log_softmax
from safevlm_training.recipe import FlagBound
from safevlm_training.thresholds import (
    FLOOR,
    calibrate,
    fit_temperature,
    score_images,
    smallest_threshold,
)

LABELS = ("privacy", "illegal_risk", "safe")
POLICY = parse_policy(
    """
schema = 1
name = "test"
uncovered = "allow"
[actions.privacy]
low = "block"
medium = "block"
high = "block"
[actions.illegal_risk]
low = "block"
medium = "block"
high = "block"
"""
)


def judged(seed: int, *, size: int = 300, scale: float = 1.0, per_group: int = 3) -> Judged:
    rng = np.random.default_rng(seed)
    types = rng.integers(0, 3, size)
    return Judged(
        labels=LABELS,
        type_logits=scale * (rng.normal(size=(size, 3)) + 1.5 * np.eye(3)[types]).astype(np.float32).astype(float),
        level_logprobs=log_softmax(rng.normal(size=(size, 4))),
        types=types,
        levels=np.where(types == 2, 0, 2),
        groups=[f"{kind}-{number // per_group}" for number, kind in enumerate(types)],
        sources=["photos/a" if number % 2 else "drawn" for number in range(size)],
    )


def test_the_temperature_is_the_best_one_and_undoes_a_scale() -> None:
    images = judged(1, size=3000)
    best = fit_temperature(images)
    losses = {t: log_loss(log_softmax(images.type_logits / t), images.types) for t in np.linspace(0.2, 5, 481)}
    assert best == pytest.approx(min(losses, key=losses.__getitem__), abs=0.01)
    assert fit_temperature(judged(1, size=3000, scale=4.0)) == pytest.approx(4 * best, rel=1e-3)


def test_a_temperature_needs_every_type() -> None:
    images = judged(1)
    images.types[images.types == 1] = 0
    with pytest.raises(DataError, match="no image of illegal_risk"):
        fit_temperature(images)


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.floats(0, 0.9998), st.integers(0, 9998).map(lambda n: n / 10000)), min_size=1, max_size=40),
    st.integers(0, 45),
)
def test_the_threshold_is_the_smallest_of_four_decimals(values: list[float], allowed: int) -> None:
    worst = np.array(values)
    found = smallest_threshold(worst, allowed)
    assert found == round(found, 4)
    assert found >= FLOOR
    assert (worst >= found).sum() <= allowed
    below = round(found - 0.0001, 4)
    assert found == FLOOR or (worst >= below).sum() > allowed


@pytest.mark.parametrize(("flagged", "groups"), [(0, 299), (0, 10), (3, 50), (49, 50)])
def test_the_bound_is_the_exact_one(flagged: int, groups: int) -> None:
    bound = upper_bound(flagged, groups)
    assert binom.cdf(flagged, groups, bound) == pytest.approx(0.05)
    assert upper_bound(groups, groups) == 1.0


def test_299_groups_without_an_error_give_one_percent() -> None:
    assert upper_bound(0, 299) <= 0.01 < upper_bound(0, 298)


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.1, 0.3])
def test_the_runtime_flags_no_more_groups_than_asked(rate: float) -> None:
    """Counted by the decision itself, over all thresholds together."""
    images = judged(3)
    found = calibrate(judged(2), images, [FlagBound(flag_at_most=rate, sources=())])
    rule = Rule(
        labels=LABELS,
        activation="softmax",
        temperature=found.calibration.temperature,
        thresholds=found.thresholds.categories,
        any_threshold=found.thresholds.any,
    )
    actions = [
        decide(logits, levels, rule, POLICY).action
        for logits, levels in zip(images.type_logits, images.level_logprobs, strict=True)
    ]
    flags = np.array([action is not Action.ALLOW for action in actions])
    scores = score_images(images, found.calibration.temperature)
    assert np.array_equal(scores.flagged(LABELS, found.thresholds), flags)
    safe = {group for group, risky in zip(images.groups, images.risky, strict=True) if not risky}
    flagged = {g for g, risky, flag in zip(images.groups, images.risky, flags, strict=True) if flag and not risky}
    assert found.calibration.safe_groups == len(safe)
    assert len(flagged) <= rate * len(safe)
    assert f"{len(flagged)} of {len(safe)} are flagged" in found.calibration.note
    assert f"{upper_bound(len(flagged), len(safe)):.4g}" in found.calibration.note


def test_only_the_named_sources_count() -> None:
    images = judged(5)
    every = calibrate(judged(2), images, [FlagBound(flag_at_most=0.1, sources=())])
    photos = calibrate(judged(2), images, [FlagBound(flag_at_most=0.1, sources=("photos",))])
    assert photos.calibration.safe_groups < every.calibration.safe_groups
    assert "of photos" in photos.calibration.note
    with pytest.raises(DataError, match="no safe image of elsewhere"):
        calibrate(judged(2), images, [FlagBound(flag_at_most=0.1, sources=("elsewhere",))])


def test_of_several_bounds_the_thresholds_keep_all() -> None:
    images = judged(5)
    soft, hard = FlagBound(flag_at_most=0.3), FlagBound(flag_at_most=0.02, sources=("photos",))
    both = calibrate(judged(2), images, [soft, hard])
    each = [calibrate(judged(2), images, [bound]).thresholds for bound in (soft, hard)]
    assert both.thresholds.any == max(found.any for found in each)
    assert both.thresholds.categories == {
        name: max(found.categories[name] for found in each) for name in both.thresholds.categories
    }
    assert "at most 0.3 of its" in both.calibration.note
    assert "of photos to flag at most 0.02" in both.calibration.note


def test_safe_images_of_probability_one_are_refused_not_rounded_away() -> None:
    images = judged(5)
    images.type_logits[~images.risky] = [90.0, 0.0, 0.0]
    with pytest.raises(DataError, match="have a probability of 1"):
        calibrate(judged(2), images, [FlagBound(flag_at_most=0.1, sources=())])


def test_the_order_of_images_does_not_matter() -> None:
    images = judged(6)
    order = np.random.default_rng(0).permutation(len(images.types))
    shuffled = dataclasses.replace(
        images,
        type_logits=images.type_logits[order],
        level_logprobs=images.level_logprobs[order],
        types=images.types[order],
        levels=images.levels[order],
        groups=[images.groups[row] for row in order],
        sources=[images.sources[row] for row in order],
    )
    first = calibrate(judged(2), images, [FlagBound(flag_at_most=0.1, sources=())])
    assert calibrate(judged(2), shuffled, [FlagBound(flag_at_most=0.1, sources=())]) == first
