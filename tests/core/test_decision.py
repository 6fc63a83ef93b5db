"""The decision: examples, then properties that must hold for any outputs and any policy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safevlm_sdk.decision import Decision, Rule, decide, failed, fuse, probabilities
from safevlm_sdk.policy import Action, LevelActions, Policy
from safevlm_sdk.taxonomy import RiskLevel

LEVELS_HIGH = np.log(np.array([0.1, 0.1, 0.2, 0.6]))
UNIFORM = LevelActions(low=Action.CAUTION, medium=Action.BLOCK, high=Action.BLOCK)
LENIENT = LevelActions(low=Action.ALLOW, medium=Action.CAUTION, high=Action.CAUTION)


def rule(*risks, any_threshold=0.5, threshold=0.5, activation="softmax", temperature=1.0):
    labels = (*risks, "safe") if activation == "softmax" else risks
    return Rule(
        labels=labels,
        activation=activation,
        temperature=temperature,
        thresholds=dict.fromkeys(risks, threshold),
        any_threshold=any_threshold,
    )


def policy(**actions):
    return Policy(schema=1, name="test", uncovered="allow", actions=actions)


def logits_of(*probabilities):
    return np.log(np.array(probabilities, dtype=np.float64))


def test_nothing_flagged_is_safe():
    verdict = decide(logits_of(0.1, 0.9), LEVELS_HIGH, rule("privacy"), policy(privacy=UNIFORM))
    assert (verdict.action, verdict.category, verdict.level) == (Action.ALLOW, "safe", RiskLevel.NONE)
    assert verdict.score == pytest.approx(0.1)
    assert verdict.error is None


def test_a_flag_takes_its_level_and_action():
    verdict = decide(logits_of(0.8, 0.2), LEVELS_HIGH, rule("privacy"), policy(privacy=UNIFORM))
    assert (verdict.action, verdict.category, verdict.level) == (Action.BLOCK, "privacy", RiskLevel.HIGH)
    assert verdict.reason == "privacy 0.800 >= 0.500"


def test_the_level_head_never_clears_a_flag():
    mostly_none = np.log(np.array([0.97, 0.02, 0.006, 0.004]))
    verdict = decide(logits_of(0.8, 0.2), mostly_none, rule("privacy"), policy(privacy=UNIFORM))
    assert (verdict.level, verdict.action) == (RiskLevel.LOW, Action.CAUTION)


def test_a_level_tie_goes_to_the_higher_level():
    verdict = decide(logits_of(0.8, 0.2), np.log(np.full(4, 0.25)), rule("privacy"), policy(privacy=UNIFORM))
    assert verdict.level is RiskLevel.HIGH


def test_two_equal_risks_do_not_slip_under_two_thresholds():
    outputs = logits_of(0.499, 0.499, 0.002)
    verdict = decide(outputs, LEVELS_HIGH, rule("a", "b"), policy(a=LENIENT, b=UNIFORM))
    assert verdict.action is Action.BLOCK
    assert verdict.category == "b"
    assert "score" in verdict.reason


def test_the_worst_action_names_the_category_and_ties_go_to_the_likelier():
    lower = rule("a", "b", threshold=0.2)
    assert decide(logits_of(0.6, 0.3, 0.1), LEVELS_HIGH, lower, policy(a=LENIENT, b=UNIFORM)).category == "b"
    assert decide(logits_of(0.3, 0.6, 0.1), LEVELS_HIGH, lower, policy(a=UNIFORM, b=UNIFORM)).category == "b"


def test_a_category_without_actions_is_off():
    verdict = decide(logits_of(0.05, 0.9, 0.05), LEVELS_HIGH, rule("a", "b"), policy(a=UNIFORM))
    assert verdict.action is Action.ALLOW
    assert verdict.score == pytest.approx(0.05)
    assert verdict.categories.keys() == {"a"}


def test_a_policy_that_wants_nothing_covered_allows_and_scores_zero():
    for activation in ("softmax", "sigmoid"):
        covered = rule("a", activation=activation)
        verdict = decide(np.full(len(covered.labels), 3.0), LEVELS_HIGH, covered, policy(elsewhere=UNIFORM))
        assert (verdict.action, verdict.score) == (Action.ALLOW, pytest.approx(0.0 if activation == "sigmoid" else 0))


def test_policy_thresholds_replace_the_bundles():
    strict = Policy(
        schema=1, name="strict", uncovered="allow", actions={"a": UNIFORM}, thresholds={"a": 0.05}, any_threshold=0.9
    )
    verdict = decide(logits_of(0.1, 0.9), LEVELS_HIGH, rule("a"), strict)
    assert (verdict.action, verdict.reason) == (Action.BLOCK, "a 0.100 >= 0.050")


def test_sigmoid_scores_the_largest_and_is_stable_for_large_logits():
    covered = rule("a", "b", activation="sigmoid")
    p = probabilities(np.array([-1000.0, 1000.0]), covered)
    assert p == {"a": 0.0, "b": 1.0}
    verdict = decide(np.array([0.0, -5.0]), LEVELS_HIGH, covered, policy(a=UNIFORM, b=UNIFORM))
    assert (verdict.score, verdict.category) == (0.5, "a")


def test_temperature_divides_the_logits():
    assert probabilities(np.array([2.0, 0.0]), rule("a", temperature=2.0))["a"] == pytest.approx(1 / (1 + np.exp(-1)))


def test_a_wrong_shape_is_an_error():
    for logits, levels in ((np.zeros(3), LEVELS_HIGH), (np.zeros(2), np.zeros(3)), (np.zeros((1, 2)), LEVELS_HIGH)):
        verdict = decide(logits, levels, rule("a"), policy(a=UNIFORM))
        assert (verdict.error, verdict.action, verdict.category) == ("output_shape", Action.BLOCK, None)


def test_on_error_is_the_policys():
    soft = Policy(schema=1, name="soft", uncovered="allow", actions={"a": UNIFORM}, on_error="caution")
    assert failed("engine_failed", "it failed", soft).action is Action.CAUTION


def test_nothing_to_fuse_is_refused():
    with pytest.raises(ValueError, match="nothing was judged"):
        fuse([])


def test_the_worst_decides_and_the_first_of_equals():
    harmless = decide(logits_of(0.1, 0.9), LEVELS_HIGH, rule("a"), policy(a=UNIFORM))
    risky = decide(logits_of(0.9, 0.1), LEVELS_HIGH, rule("a"), policy(a=UNIFORM))
    assert fuse([harmless, risky, risky]) == (1, risky)
    assert fuse([harmless]) == (0, harmless)


def test_a_failure_that_is_cautioned_does_not_undo_a_block():
    soft = Policy(schema=1, name="soft", uncovered="allow", actions={"a": UNIFORM}, on_error="caution")
    risky = decide(logits_of(0.9, 0.1), LEVELS_HIGH, rule("a"), soft)
    index, fused = fuse([risky, failed("engine_failed", "it failed", soft)])
    assert (index, fused.error, fused.action) == (1, "engine_failed", Action.BLOCK)
    assert fused.reason == "it failed; block because of another view"


def test_a_probability_that_is_not_finite_is_an_error():
    tiny = rule("a", temperature=1e-320)
    verdict = decide(np.array([50.0, -50.0]), LEVELS_HIGH, tiny, policy(a=UNIFORM))
    assert (verdict.error, verdict.action) == ("output_not_finite", Action.BLOCK)


# --- properties ---------------------------------------------------------------------------------------------

RISKS = ("a", "b", "c")
numbers = st.floats(allow_nan=True, allow_infinity=True, width=32)
finite = st.floats(-30, 30)
actions = st.lists(st.sampled_from(list(Action)), min_size=3, max_size=3).map(
    lambda row: LevelActions(
        **dict(zip(("low", "medium", "high"), sorted(row, key=lambda a: a.severity), strict=True))
    )
)
policies = st.builds(
    lambda a, b, c: policy(a=a, b=b, c=c),
    actions,
    actions,
    actions,
)
thresholds = st.floats(0.01, 1.0)
rules = st.builds(
    lambda t, any_t, activation, temperature: rule(
        *RISKS, threshold=t, any_threshold=any_t, activation=activation, temperature=temperature
    ),
    thresholds,
    thresholds,
    st.sampled_from(["softmax", "sigmoid"]),
    st.floats(1e-3, 1e3),
)


@st.composite
def outputs(draw, elements=finite):
    judged = draw(rules)
    logits = draw(st.lists(elements, min_size=len(judged.labels), max_size=len(judged.labels)))
    levels = draw(st.lists(elements, min_size=4, max_size=4))
    return judged, np.array(logits, dtype=np.float64), np.array(levels, dtype=np.float64)


@settings(max_examples=400, deadline=None)
@given(outputs(numbers), policies, st.floats(5e-324, 1e308))
def test_nothing_that_is_not_finite_allows(drawn, chosen, temperature):
    judged, logits, levels = drawn
    extreme = decide(logits, levels, replace(judged, temperature=temperature), chosen)
    assert extreme.error is not None or all(map(math.isfinite, [extreme.score, *extreme.categories.values()]))
    decision = decide(logits, levels, judged, chosen)
    if not (np.isfinite(logits).all() and np.isfinite(levels).all()):
        assert decision.error == "output_not_finite"
        assert decision.action is chosen.error_action is Action.BLOCK
    else:
        assert decision.error is None
        assert 0.0 <= decision.score <= 1.0


@settings(max_examples=400, deadline=None)
@given(outputs(), policies)
def test_a_reached_threshold_is_never_ignored(drawn, chosen):
    judged, logits, levels = drawn
    decision = decide(logits, levels, judged, chosen)
    reached = [c for c, p in decision.categories.items() if p >= judged.thresholds[c]]
    flagged = decision.category != "safe"
    assert flagged == (bool(reached) or decision.score >= judged.any_threshold)
    for category in reached:
        assert decision.action.severity >= chosen.actions[category].at(decision.level).severity


@settings(max_examples=400, deadline=None)
@given(outputs(), policies, st.sampled_from(RISKS), st.floats(0.01, 20))
def test_adding_risk_never_softens_the_action(drawn, chosen, category, more):
    """Mass moves from `safe` to one risk, whose action is at least as hard as the verdict's, at the same levels."""
    judged, logits, levels = drawn
    before = decide(logits, levels, judged, chosen)
    index = judged.labels.index(category)
    risen = logits.copy()
    if judged.activation == "sigmoid":
        risen[index] += more
    else:
        p = np.array(list(probabilities(logits, judged).values()))
        moved = p[-1] * min(more / 20, 0.999)
        p[index] += moved
        p[-1] -= moved
        risen = np.log(np.maximum(p, 1e-300)) * judged.temperature
    after = decide(risen, levels, judged, chosen)
    level = after.level if after.level else RiskLevel.HIGH
    if chosen.actions[category].at(level).severity >= before.action.severity:
        rounding = abs(before.score - judged.any_threshold) < 1e-9 or any(
            abs(value - judged.thresholds[c]) < 1e-9 for c, value in before.categories.items()
        )
        assert rounding or after.action.severity >= before.action.severity


@settings(max_examples=200, deadline=None)
@given(outputs(), policies, st.floats(0.1, 30))
def test_a_higher_level_never_softens_the_action(drawn, chosen, more):
    judged, logits, levels = drawn
    before = decide(logits, levels, judged, chosen)
    higher = levels.copy()
    higher[RiskLevel.HIGH] += more
    assert decide(logits, higher, judged, chosen).action.severity >= before.action.severity


@settings(max_examples=200, deadline=None)
@given(st.lists(outputs(), min_size=1, max_size=5), policies)
def test_another_view_never_softens_the_action(views, chosen):
    decisions = [decide(logits, levels, judged, chosen) for judged, logits, levels in views]
    for count in range(1, len(decisions)):
        assert fuse(decisions[: count + 1])[1].action.severity >= fuse(decisions[:count])[1].action.severity


@settings(max_examples=100, deadline=None)
@given(outputs(), policies)
def test_a_failed_view_is_worse_than_any_other(drawn, chosen):
    judged, logits, levels = drawn
    broken: Decision = failed("engine_failed", "it failed", chosen)
    assert fuse([decide(logits, levels, judged, chosen), broken])[1].error == "engine_failed"
