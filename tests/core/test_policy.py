"""Policies are read strictly, and two files that say the same have one digest."""

from __future__ import annotations

import pytest

from safevlm_sdk.errors import PolicyError
from safevlm_sdk.policy import Action, default_policy_text, load_policy, parse_policy

VALID = """
schema = 1
name = "mine"
uncovered = "refuse"
[actions.privacy]
low = "allow"
medium = "caution"
high = "block"
"""


def test_a_valid_policy():
    policy = parse_policy(VALID)
    assert policy.actions["privacy"].high is Action.BLOCK
    assert policy.error_action is Action.BLOCK
    assert policy.uncovered_by(["privacy"]) == ()
    assert policy.uncovered_by([]) == ("privacy",)


def test_the_default_policy_leaves_politics_off():
    policy = parse_policy(default_policy_text())
    assert "politics" not in policy.actions
    assert "privacy" in policy.actions
    assert policy.on_error == "block"


def test_the_digest_is_of_the_meaning():
    spaced = VALID.replace('name = "mine"', '# a comment\nname   =   "mine"')
    assert parse_policy(spaced).digest == parse_policy(VALID).digest
    assert parse_policy(VALID.replace("caution", "block")).digest != parse_policy(VALID).digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('uncovered = "refuse"', ""), "uncovered"),
        (("schema = 1", "schema = 2"), "schema"),
        (('name = "mine"', 'name = "mine"\ncolour = "red"'), "colour"),
        (('high = "block"', 'high = "explode"'), "explode"),
        (('high = "block"', 'high = "allow"'), "softer"),
        (('high = "block"', ""), "high"),
        (("[actions.privacy]", "[actions.safe]"), "safe"),
        (('name = "mine"', 'name = "mine"\nany_threshold = 0.0'), "any_threshold"),
        (('name = "mine"', 'name = "mine"\nany_threshold = nan'), "any_threshold"),
        (('name = "mine"', 'name = "mine"\non_error = "allow"'), "on_error"),
        (('name = "mine"', 'name = "mine"\nname = "again"'), "overwrite"),
        (('high = "block"', 'high = "block"\n[thresholds]\nfairness = 0.5'), r"actions\.fairness"),
        (('high = "block"', 'high = "block"\n[thresholds]\nprivacy = 1.5'), r"\(0, 1\]"),
    ],
)
def test_anything_else_is_refused_by_name(change, message):
    changed = VALID.replace(*change)
    assert changed != VALID
    with pytest.raises(PolicyError, match=message):
        parse_policy(changed, where="mine.toml")


def test_an_empty_policy_is_refused():
    with pytest.raises(PolicyError, match="at least one category"):
        parse_policy('schema = 1\nname = "x"\nuncovered = "allow"\nactions = {}')


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path / "absent.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PolicyError, match="utf-8"):
        load_policy(tmp_path / "binary.toml")
