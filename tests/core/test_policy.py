"""Policies are read strictly, and two files that say the same have one digest."""

from __future__ import annotations

import pytest

from safevlm_sdk.errors import PolicyError, PolicyUncovered
from safevlm_sdk.policy import Action, default_policy_text, load_policy, parse_policy
from safevlm_sdk.policy_fit import require_judged, wanted_elsewhere
from safevlm_sdk.taxonomy import Category, Taxonomy, load_taxonomy

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


def own_taxonomy(*categories, name="mine"):
    return Taxonomy(name=name, categories={one: Category(usual_level=2, description=one) for one in categories})


def test_the_shipped_taxonomy_has_the_shipped_default():
    again = own_taxonomy(*load_taxonomy().categories, name="safevlm")
    assert default_policy_text(again) == default_policy_text(load_taxonomy()) == default_policy_text()


@pytest.mark.parametrize("categories", [("spam",), ("privacy", "spam"), ("größe", "no_helmet"), ("privacy",)])
def test_another_taxonomy_has_a_default_that_names_each_category(categories):
    text = default_policy_text(own_taxonomy(*categories))
    policy = parse_policy(text)
    assert (policy.name, policy.uncovered, policy.on_error) == ("default-mine", "allow", "block")
    assert tuple(policy.actions) == categories
    for actions in policy.actions.values():
        assert (actions.low, actions.medium, actions.high) == (Action.CAUTION, Action.CAUTION, Action.BLOCK)
    assert text.startswith(b"# The default policy of a gate with the taxonomy mine")
    assert policy.digest != parse_policy(default_policy_text()).digest


@pytest.mark.parametrize("name", ['a"\nmode = "observe"', "\ud800", "\x1b[31m\x7f", "", "NAME", "\N{GRINNING FACE}"])
def test_no_name_of_a_taxonomy_gets_into_the_default_as_toml(name):
    policy = parse_policy(default_policy_text(own_taxonomy("spam", name=name)))
    assert (policy.mode, policy.name.split("-")[0], tuple(policy.actions)) == ("enforce", "default", ("spam",))


def test_a_policy_for_something_else_is_refused_with_what_to_do():
    policy = parse_policy(VALID)
    require_judged(policy, ["spam", "privacy"], whose="the checkpoint")
    with pytest.raises(PolicyError, match=r"the checkpoint covers spam, .* wants privacy; pass --policy FILE"):
        require_judged(policy, ["spam"], whose="the checkpoint")
    assert wanted_elsewhere(policy, ["privacy"], ["privacy", "spam"]) == ()
    with pytest.raises(PolicyUncovered, match="wants privacy"):
        wanted_elsewhere(policy, ["spam"], ["privacy", "spam"])
    with pytest.raises(PolicyError, match=r"known: eggs, spam\); load the bundle .* take \[actions\.privacy\] out"):
        wanted_elsewhere(policy, ["spam"], ["spam", "eggs"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('medium = "caution"', 'medium = "blok"'), "'blok' - at `actions.privacy.medium`; known are: 'allow', "),
        (('name = "mine"', 'name = "mine"\nmode = observe'), "column 8): mode = observe; words stand in quotes"),
        (('name = "mine"', 'name = "mine"\nmode = "watch"'), "at `mode`; known are: 'enforce', 'observe'"),
        (("schema = 1", "schema = 2"), "Invalid enum value 2 - at `schema`; known are: 1"),
        (('name = "mine"', "name = 3"), "Expected `str`, got `int` - at `name`"),
        (
            ('high = "block"', 'high = "block"\n[sources.a]\n[sources.cam-1]\nmode = "observe"'),
            "unknown field `mode` - at `sources.cam-1`; known are: thresholds, any_threshold, actions",
        ),
        (
            ('high = "block"', 'high = "block"\n[[overrides]]\ncategory = "privacy"\nacton = "block"'),
            "unknown field `acton` - at `overrides[0]`; known are: category, until, reason, action, off",
        ),
        (
            ('high = "block"', 'high = "block"\n[hysteresis]\nk = "1"'),
            "Expected `int`, got `str` - at `hysteresis.k`",
        ),
        (('high = "block"', 'high = "block"\n[thresholds]\nprivacy = "x"'), "- at `thresholds.privacy`"),
    ],
)
def test_a_message_names_the_place_and_what_may_stand_there(change, message):
    changed = VALID.replace(*change)
    assert changed != VALID
    with pytest.raises(PolicyError) as caught:
        parse_policy(changed, where="mine.toml")
    assert str(caught.value).startswith("mine.toml: ")
    assert message in str(caught.value)


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
