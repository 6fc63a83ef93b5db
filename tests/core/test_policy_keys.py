"""The keys of a policy beyond categories and actions: what they say, what is refused, and what a digest is of."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from safevlm_runtime.bundle.reader import starter_path
from safevlm_sdk.effective_policy import active_overrides, effective_policy, expired_overrides
from safevlm_sdk.errors import PolicyError
from safevlm_sdk.policy import (
    DEFAULT_REFUSAL,
    Action,
    Policy,
    Prompts,
    checked,
    default_policy_text,
    load_policy,
    parse_policy,
)

OLD = """
schema = 1
name = "old"
uncovered = "caution"
on_error = "caution"
any_threshold = 0.4
frames = "all"
mpo = "judge"
[thresholds]
privacy = 0.25
[actions.privacy]
low = "allow"
medium = "caution"
high = "block"
"""
FULL = """
schema = 1
name = "full"
uncovered = "allow"
mode = "observe"
refusal = "Not this picture."
[actions.privacy]
low = "allow"
medium = "caution"
high = "block"
[actions.fairness]
low = "caution"
medium = "caution"
high = "block"
[prompts]
low = "Gently: {subject}. {hint}"
[hints]
privacy = "Name nobody."
[sources.camera-1]
any_threshold = 0.7
thresholds = { privacy = 0.3 }
[sources.camera-1.actions.privacy]
low = "block"
medium = "block"
high = "block"
[hysteresis]
k = 2
n = 3
[[overrides]]
category = "privacy"
action = "caution"
until = 2026-06-30
reason = "the audit of June"
[[overrides]]
category = "fairness"
off = true
until = 2026-12-31
reason = "a poster is misjudged"
"""


def day(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


def test_policies_of_before_keep_their_digest() -> None:
    """Taken when none of these keys existed: calibrations and verdicts name policies by them."""
    shipped = "sha256:c814d473da3a4b53503a88445fcf37f636b17a729cbf76793c8702f5f1f501d2"
    assert load_policy(starter_path() / "policy.toml").digest == shipped
    assert parse_policy(default_policy_text()).digest == shipped
    assert parse_policy(OLD).digest == "sha256:8a8ebf76c6e3959dfd0a488dde7cecd3772306b286e9e5ff8af53ae23f64d6bc"


def test_saying_a_default_is_saying_nothing() -> None:
    said = f'mode = "enforce"\nrefusal = "{DEFAULT_REFUSAL}"\noverrides = []\n' + OLD
    said += f'[prompts]\nhigh = """{Prompts().high}"""\n[hints]\n[sources]\n'
    assert parse_policy(said).digest == parse_policy(OLD).digest


@pytest.mark.parametrize(
    "change",
    [
        ('mode = "observe"', 'mode = "enforce"'),
        ("Not this picture", "Not that picture"),
        ("Gently", "Softly"),
        ("Name nobody", "Name no one"),
        ("privacy = 0.3", "privacy = 0.31"),
        ("k = 2", "k = 1"),
        ("2026-06-30", "2026-07-01"),
        ("camera-1", "camera-2"),
    ],
)
def test_every_key_is_in_the_digest(change: tuple[str, str]) -> None:
    assert parse_policy(FULL).digest != parse_policy(FULL.replace(*change)).digest


def test_mode_and_words_decide_nothing() -> None:
    words = FULL.replace('mode = "observe"\n', "").replace('refusal = "Not this picture."\n', "")
    words = words.replace('[prompts]\nlow = "Gently: {subject}. {hint}"\n[hints]\nprivacy = "Name nobody."\n', "")
    assert parse_policy(words).digest == parse_policy(FULL).deciding_digest != parse_policy(FULL).digest
    other = parse_policy(FULL.replace("k = 2", "k = 1"))
    assert other.deciding_digest != parse_policy(FULL).deciding_digest


def test_a_checked_copy_is_equal() -> None:
    policy = parse_policy(FULL)
    assert checked(policy) == policy
    assert checked(policy).digest == policy.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('mode = "observe"', 'mode = "watch"'), "watch"),
        (('refusal = "Not this picture."', 'refusal = ""'), "refusal has 0 characters"),
        (('refusal = "Not this picture."', 'refusal = "<|im_end|>"'), "chat template"),
        (("{subject}", "{name}"), "brace"),
        (("{subject}", "{subject.x}"), "brace"),
        (("{subject}", "{{subject}}"), "brace"),
        (("{subject}", "{subject!r}"), "brace"),
        (('low = "Gently', 'mild = "Gently'), "mild"),
        (("Gently:", "[INST] Gently:"), "INST"),
        (("Gently: {subject}", "</s> {subject}"), "<"),
        (("Gently:", "\\u202eGently:"), "U\\+202E"),
        (("Gently:", "Gently\\n"), "U\\+000A"),
        (('"Name nobody."', '"Name {subject}."'), "hints.privacy holds a brace"),
        (('"Name nobody."', '"\\uFF1C|system|\\uFF1E"'), "hints.privacy"),
        (('privacy = "Name', 'politics = "Name'), r"hints\.politics: there is no \[actions\.politics\]"),
        (("thresholds = { privacy = 0.3 }", "thresholds = { privacy = 0.0 }"), r"sources\.camera-1\.thresholds"),
        (("any_threshold = 0.7", "any_threshold = nan"), r"sources\.camera-1\.any_threshold"),
        (("thresholds = { privacy = 0.3 }", "thresholds = { politics = 0.3 }"), r"actions\.politics"),
        (("[sources.camera-1.actions.privacy]", "[sources.camera-1.actions.politics]"), r"actions\.politics"),
        (("any_threshold = 0.7", 'on_error = "caution"'), "on_error"),
        (("[sources.camera-1]", '[sources."camera 1"]'), "letters, digits"),
        (("k = 2", "k = 4"), "k <= n"),
        (("k = 2", "k = 0"), "k <= n"),
        (("n = 3", "n = 100000"), "n <= 1000"),
        (("until = 2026-06-30\n", ""), "until"),
        (("until = 2026-06-30", 'until = "soon"'), "date"),
        (('reason = "the audit of June"', 'reason = " "'), "reason"),
        (('reason = "the audit of June"\n', ""), "reason"),
        (('action = "caution"\nuntil', "until"), "either `action` or `off"),
        (('action = "caution"\nuntil', 'action = "caution"\noff = true\nuntil'), "either `action` or `off"),
        (('action = "caution"\nuntil', "off = true\nuntil"), "every category off"),
        (('category = "fairness"', 'category = "politics"'), r"actions\.politics"),
    ],
)
def test_anything_else_is_refused_by_name(change: tuple[str, str], message: str) -> None:
    changed = FULL.replace(*change)
    assert changed != FULL
    with pytest.raises(PolicyError, match=message):
        parse_policy(changed, where="mine.toml")


def test_a_generic_prompt_has_no_fields() -> None:
    with pytest.raises(PolicyError, match=r"prompts\.generic"):
        parse_policy(FULL.replace("[prompts]", '[prompts]\ngeneric = "Of {subject}."'))


def test_hints_in_other_scripts_are_welcome() -> None:
    hint = "نام کسی را نبر؛ می\u200cتوانی کمک کنی. 誰も特定しないこと。"  # noqa: RUF001 - Persian
    assert parse_policy(FULL.replace("Name nobody.", hint)).hints["privacy"] == hint


def test_a_source_changes_what_it_names_and_nothing_else() -> None:
    policy = parse_policy(FULL)
    there = effective_policy(policy, "camera-1", ())
    assert there.thresholds == {"privacy": 0.3}
    assert there.any_threshold == 0.7
    assert there.actions["privacy"].low is Action.BLOCK
    assert there.actions["fairness"] == policy.actions["fairness"]
    for source in (None, "camera-2"):
        general = effective_policy(policy, source, ())
        assert (general.actions, general.thresholds, general.any_threshold) == (policy.actions, {}, None)
    assert (there.sources, there.mode, there.prompts) == ({}, "observe", policy.prompts)


def test_an_override_has_effect_to_the_end_of_its_day() -> None:
    policy = parse_policy(FULL)

    def on(date: str, source: str | None = None) -> Policy:
        return effective_policy(policy, source, active_overrides(policy, day(date)))

    june, july, next_year = on("2026-06-30"), on("2026-07-01"), on("2027-01-01")
    assert [june.actions["privacy"].at(level) for level in (1, 2, 3)] == [Action.CAUTION] * 3
    assert july.actions["privacy"] == policy.actions["privacy"]
    assert "fairness" not in june.actions
    assert "fairness" not in july.actions
    assert next_year.actions == policy.actions
    assert on("2026-06-30", "camera-1").actions["privacy"].low is Action.CAUTION  # over the source's own


def test_what_expired_is_said() -> None:
    policy = parse_policy(FULL)
    assert expired_overrides(policy, day("2026-06-30")) == ()
    (told,) = expired_overrides(policy, day("2026-07-01"))
    assert "privacy is caution at every level until 2026-06-30 (the audit of June)" in told


def test_the_first_override_of_a_category_counts() -> None:
    later = '[[overrides]]\ncategory = "privacy"\naction = "block"\nuntil = 2027-01-31\nreason = "then hard"\n'
    policy = parse_policy(FULL + later)
    for date, wanted in (("2026-06-30", "the audit of June"), ("2026-07-01", "then hard")):
        reasons = {one.category: one.reason for one in active_overrides(policy, day(date))}
        assert reasons["privacy"] == wanted


def test_every_example_in_the_documentation_is_a_policy() -> None:
    text = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
    examples = [part.split("```")[0] for part in text.split("```toml\n")[1:]]
    assert len(examples) >= 8
    for example in examples:
        whole = example if "schema = 1" in example else _completed(example)
        parse_policy(whole, where=example)
    told = "".join(examples)
    keys = [*Policy.__struct_fields__, *Prompts.__struct_fields__, "category", "until", "reason", "off", "k", "n"]
    assert [key for key in keys if key not in told] == []


def _completed(example: str) -> str:
    """An excerpt with what every policy has, unless it says it itself."""
    top, at, tables = example.partition("\n[") if not example.startswith("[") else ("", "[", example[1:])
    head = "".join(
        f"{key} = {value}\n"
        for key, value in (("schema", "1"), ("name", '"x"'), ("uncovered", '"allow"'))
        if f"{key} =" not in top
    )
    actions = (
        ""
        if "[actions.privacy]" in example
        else ('\n[actions.privacy]\nlow = "allow"\nmedium = "caution"\nhigh = "block"\n')
    )
    return f"{head}{top}\n{at.strip()}{tables}{actions}"
