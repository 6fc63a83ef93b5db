"""The nested family of thresholds: one number per view says what the decision does at every step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from safevlm_sdk.calibration.family import HARDEST, NEVER, SOFTEST, check_policy, family_of, last_step
from safevlm_sdk.decision import Rule, decide
from safevlm_sdk.errors import CalibrationError
from safevlm_sdk.policy import Action, Policy, parse_policy

POLICY = """
schema = 1
name = "test"
uncovered = "allow"
[actions.privacy]
low = "allow"
medium = "caution"
high = "block"
[actions.illegal_risk]
low = "block"
medium = "block"
high = "block"
"""
RULE = Rule(
    labels=("privacy", "illegal_risk", "fairness", "safe"),
    activation="softmax",
    temperature=1.5,
    thresholds={"privacy": 0.3, "illegal_risk": 0.6, "fairness": 0.5},
    any_threshold=0.7,
)
SIGMOID = replace(RULE, labels=("privacy", "illegal_risk", "fairness"), activation="sigmoid")
logits = st.floats(-30, 30, width=32)


def policy(changes: str = "") -> Policy:
    return parse_policy(changes + POLICY)


def test_it_runs_through_the_present_thresholds_and_never_falls() -> None:
    family = family_of(RULE, RULE.temperature)
    present = np.array([0.3, 0.6, 0.5, 0.7])
    nearest = np.abs(family.table - present).max(axis=1).min()
    assert nearest < 5e-4
    assert (np.diff(family.table, axis=0) >= 0).all()
    assert family.table[0].max() == pytest.approx(SOFTEST)
    assert family.table[-2].min() == pytest.approx(HARDEST)
    assert (family.table[-1] == 1.0).all()


def test_a_new_temperature_leaves_the_same_logits_on_the_same_side() -> None:
    two = replace(RULE, labels=("privacy", "safe"), thresholds={"privacy": 0.3}, any_threshold=0.3)
    family = family_of(two, 4.0)
    p = 1 / (1 + np.exp(-np.log(0.3 / 0.7) * 1.5 / 4.0))
    assert np.abs(family.table[:, 0] - p).min() < 5e-4


@settings(deadline=None, max_examples=200)
@given(
    arrays(np.float32, 4, elements=logits), arrays(np.float32, 4, elements=st.floats(-8, 0, width=32)), st.booleans()
)
def test_the_number_says_what_the_decision_does_at_every_step(types, levels, sigmoid) -> None:
    rule = SIGMOID if sigmoid else RULE
    types = types[: len(rule.labels)]
    family, used = family_of(rule, rule.temperature), policy()
    last = last_step(types, levels, rule, used, family)
    assert last is not None
    near = {0, family.steps - 1, last - 1, last, last + 1, family.steps // 2}
    for step in sorted(step for step in near if 0 <= step < family.steps):
        thresholds = family.at(step)
        there = replace(rule, thresholds=thresholds.categories, any_threshold=thresholds.any)
        flagged = decide(types, levels, there, used).action is not Action.ALLOW
        assert flagged == (step <= last), (step, last)


def test_a_level_that_the_policy_allows_never_flags() -> None:
    family = family_of(RULE, 1.5)
    sure_of_privacy = np.array([30, -30, -30, -30], np.float32)
    low, high = np.log(np.array([[0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7]]))
    assert last_step(sure_of_privacy, low, RULE, policy(), family) == last_step(
        np.array([-30, -30, -30, 30], np.float32), low, RULE, policy(), family
    )
    assert last_step(sure_of_privacy, high, RULE, policy(), family) == family.steps - 1


def test_nothing_of_a_category_that_is_off_and_nothing_of_what_is_not_finite() -> None:
    family, levels = family_of(RULE, 1.5), np.log(np.full(4, 0.25))
    assert last_step(np.array([-99, -99, 99, 0], np.float32), levels, RULE, policy(), family) == NEVER
    assert last_step(np.array([np.nan, 0, 0, 0], np.float32), levels, RULE, policy(), family) is None


def test_a_policy_that_decides_by_itself_is_refused() -> None:
    check_policy(policy(), RULE.covered)
    with pytest.raises(CalibrationError, match=r"thresholds of its own \(any_threshold\)"):
        check_policy(policy("any_threshold = 0.5\n"), RULE.covered)
    with pytest.raises(CalibrationError, match=r"thresholds of its own \(privacy\)"):
        check_policy(parse_policy(POLICY + "[thresholds]\nprivacy = 0.5\n"), RULE.covered)
    cautious = parse_policy(POLICY.replace('"allow"\n[actions.privacy]', '"caution"\n[actions.privacy]'))
    check_policy(cautious, RULE.covered)
    with pytest.raises(CalibrationError, match="every ALLOW a CAUTION because nothing covers illegal_risk"):
        check_policy(cautious, ("privacy",))
