"""What holds for any policy: nothing that failed is allowed, words stay words, frames vote as the rule says."""

from __future__ import annotations

import datetime
import re

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safevlm_sdk.actions import Action, LevelActions
from safevlm_sdk.decision import Rule, decide
from safevlm_sdk.effective_policy import active_overrides, effective_policy
from safevlm_sdk.hysteresis import held_action
from safevlm_sdk.policy import Hysteresis, Override, Policy, Prompts, SourceRules
from safevlm_sdk.safety_prompt import safety_prompt
from safevlm_sdk.taxonomy import RiskLevel, load_taxonomy
from safevlm_sdk.told_words import filled

RISKS = ("privacy", "fairness", "politics")
TODAY = datetime.date(2026, 6, 1)
SHIPPED = load_taxonomy()

actions = st.lists(st.sampled_from(list(Action)), min_size=3, max_size=3).map(
    lambda row: LevelActions(
        **dict(zip(("low", "medium", "high"), sorted(row, key=lambda one: one.severity), strict=True))
    )
)
thresholds = st.dictionaries(st.sampled_from(RISKS), st.floats(0.01, 1.0))
any_threshold = st.none() | st.floats(0.01, 1.0)
sources = st.builds(
    lambda t, a, some: SourceRules(thresholds=t, any_threshold=a, actions=some),
    thresholds,
    any_threshold,
    st.dictionaries(st.sampled_from(RISKS), actions),
)
overrides = st.builds(
    lambda category, action, days: Override(
        category=category, action=action, off=action is None, until=TODAY + datetime.timedelta(days), reason="r"
    ),
    st.sampled_from(RISKS[1:]),  # privacy stays on
    st.none() | st.sampled_from(list(Action)),
    st.integers(-2, 2),
)
policies = st.builds(
    lambda rows, t, a, source, later, on_error, mode: Policy(
        schema=1,
        name="any",
        uncovered="allow",
        actions=dict(zip(RISKS, rows, strict=True)),
        thresholds=t,
        any_threshold=a,
        sources={"camera": source},
        overrides=tuple(later),
        on_error=on_error,
        mode=mode,
    ),
    st.lists(actions, min_size=3, max_size=3),
    thresholds,
    any_threshold,
    sources,
    st.lists(overrides, max_size=4),
    st.sampled_from(["block", "caution"]),
    st.sampled_from(["enforce", "observe"]),
)
RULE = Rule(
    labels=(*RISKS, "safe"),
    activation="softmax",
    temperature=1.0,
    thresholds=dict.fromkeys(RISKS, 0.5),
    any_threshold=0.5,
)
bad = st.sampled_from([np.nan, np.inf, -np.inf])


@settings(max_examples=150, deadline=None)
@given(policies, st.sampled_from([None, "camera", "elsewhere"]), bad, st.integers(0, 7), st.lists(st.floats(-9, 9)))
def test_no_policy_lets_what_is_not_finite_pass(policy, source, value, at, values):
    outputs = np.resize(np.array([0.0, *values]), 8)
    outputs[at] = value
    applied = effective_policy(policy, source, active_overrides(policy, TODAY))
    decision = decide(outputs[:4], outputs[4:], RULE, applied)
    assert (decision.error, decision.action) == ("output_not_finite", policy.error_action)
    assert decision.action is not Action.ALLOW


@settings(max_examples=150, deadline=None)
@given(policies, st.lists(st.floats(-9, 9), min_size=4, max_size=4), st.sampled_from(RISKS))
def test_a_category_does_at_most_what_the_rules_in_force_say(policy, logits, category):
    """Whoever reads the effective policy reads what is done."""
    levels = np.log([0.1, 0.2, 0.3, 0.4])
    for source in (None, "camera"):
        applied = effective_policy(policy, source, active_overrides(policy, TODAY))
        decision = decide(np.array(logits), levels, RULE, applied)
        if decision.category != "safe":
            assert decision.action is applied.actions[decision.category].at(RiskLevel.HIGH)
        off = {one.category for one in active_overrides(policy, TODAY) if one.off}
        assert set(decision.categories) == set(RISKS) - off
        if category in off:
            assert decision.category != category


# --- words ---------------------------------------------------------------------------------------------------

plain = st.text(st.characters(codec="utf-8", exclude_characters="{}"), max_size=8)
fields = st.sampled_from(["{category}", "{subject}", "{hint}"])
values = st.lists(st.sampled_from(["a", "{", "}", "{category}", "{subject}", "{hint}"]), max_size=4).map("".join)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(plain, fields)), plain, values, values, values)
def test_a_filled_template_is_the_template_and_its_fields(parts, end, category, subject, hint):
    by_name = {"{category}": category, "{subject}": subject, "{hint}": hint}
    template = "".join(text + field for text, field in parts) + end
    wanted = "".join(text + by_name[field] for text, field in parts) + end
    assert filled(template, category=category, subject=subject, hint=hint) == wanted


@settings(max_examples=400, deadline=None)
@given(st.text(st.sampled_from("ab <>|[]{}/sINTcategoryhi_:#\n\u202e\u200b\uff1c\uff5b."), max_size=30))
def test_a_template_that_is_taken_holds_nothing_but_words_and_fields(text):
    try:
        prompts = Prompts(high=text)
    except ValueError:
        return
    note = safety_prompt("privacy", RiskLevel.HIGH, SHIPPED, prompts, {"privacy": "a hint"})
    assert note == text.replace("{category}", "privacy").replace("{subject}", "personal data").replace(
        "{hint}", "a hint"
    )
    assert not re.search(r"[<>{}\n\u202e\u200b\uff1c\uff5b]|\[[A-Z]+\]", note)


@pytest.mark.parametrize(
    "mark",
    [
        "<|im_start|>", "<|im_end|>", "<|eot_id|>", "</s>", "<s>", "[INST]", "[/INST]", "<<SYS>>", "<start_of_turn>",
        "<image>", "<safety>", "<split>", "[IMG]", "[img]", "### Instruction", "USER: hello", "Assistant : hello",
        "\x00", "\x1b[31m",
        "\u2066", "\u2028", "\ufeff", "\U000e0041",
        "\uff1c|im_start|\uff1e", "<\uff5cUser\uff5c>", "\uff5bsubject\uff5d", "[ INST ]", "a\tb",
    ],
)  # fmt: skip
def test_marks_of_chat_templates_are_no_words(mark):
    for build in (
        lambda: Prompts(low=f"Care. {mark}"),
        lambda: Prompts(generic=f"Care. {mark}"),
        lambda: policy_of(hints={"privacy": f"Care. {mark}"}),
    ):
        with pytest.raises(ValueError, match=r"holds|characters"):
            build()


def test_a_refusal_and_a_reason_are_one_line_without_marks():
    for mark in ("<|im_end|>", "[INST]", "\n", "\u202e"):
        with pytest.raises(ValueError, match="refusal holds"):
            policy_of(refusal=f"No. {mark}")
        with pytest.raises(ValueError, match="the reason of the override of 'privacy' holds"):
            Override(category="privacy", off=True, until=TODAY, reason=f"a {mark}")


def policy_of(**parts):
    levels = LevelActions(low=Action.ALLOW, medium=Action.CAUTION, high=Action.BLOCK)
    return Policy(schema=1, name="p", uncovered="allow", actions={"privacy": levels}, **parts)


def test_the_shipped_words_are_words_by_the_same_rules():
    Prompts(**msgspec.structs.asdict(Prompts()))
    for category in SHIPPED.categories:
        for level in (RiskLevel.LOW, RiskLevel.MEDIUM, RiskLevel.HIGH):
            policy_of(hints={"privacy": safety_prompt(category, level, SHIPPED)})


# --- votes ---------------------------------------------------------------------------------------------------

votes = st.lists(st.sampled_from(list(Action)), max_size=12)
rules = st.integers(1, 6).flatmap(lambda n: st.builds(Hysteresis, k=st.integers(1, n), n=st.just(n)))


@settings(max_examples=200, deadline=None)
@given(votes, rules)
def test_k_of_n_must_call_for_what_is_done(frames, rule):
    held = held_action(frames, rule)
    window = frames[-rule.n :]
    for action in Action:
        callers = sum(vote.severity >= action.severity for vote in window)
        if action is not Action.ALLOW:
            assert (callers >= rule.k) == (held.severity >= action.severity)


@settings(max_examples=150, deadline=None)
@given(votes, rules, st.integers(0, 11))
def test_a_harder_vote_never_softens(frames, rule, at):
    if frames:
        harder = list(frames)
        harder[at % len(frames)] = Action.BLOCK
        assert held_action(harder, rule).severity >= held_action(frames, rule).severity


def test_examples_of_votes():
    rule = Hysteresis(k=2, n=3)
    allow, caution, block = Action
    assert held_action([block], rule) is allow
    assert held_action([block, caution], rule) is caution
    assert held_action([block, block, allow], rule) is block
    assert held_action([block, block, allow, allow], rule) is allow
    assert held_action([], Hysteresis(k=1, n=1)) is allow
    assert held_action([block], Hysteresis(k=1, n=1)) is block
