"""One verdict for the images of a request."""

from __future__ import annotations

import pytest

from safevlm_runtime.judging.worst import safety_note, worst
from safevlm_sdk.policy import Action
from safevlm_sdk.taxonomy import RiskLevel
from safevlm_sdk.verdict import Verdict


def verdict(action, level=RiskLevel.NONE, score=0.1, **changes):
    parts = {
        "action": action, "category": "privacy" if level else "safe", "level": level, "score": score,
        "categories": {}, "covered": ("privacy",), "uncovered": (), "error": None, "reason": "r", "timings_ms": {},
        "provider": None, "source_sha256": None, "raster_sha256": None, "bundle_digests": (), "policy_digests": (),
    }  # fmt: skip
    return Verdict(**(parts | changes))


ALLOW = verdict(Action.ALLOW)
CAUTION = verdict(Action.CAUTION, RiskLevel.LOW, 0.7, safety_prompt="mind")
BLOCK = verdict(Action.BLOCK, RiskLevel.HIGH, 0.8, refusal="no")
FAILED = verdict(
    Action.CAUTION, category=None, level=None, score=None, error="image_corrupt", safety_prompt="unknown"
)


def test_the_worst_image_decides_and_is_named():
    index, found = worst([ALLOW, CAUTION, BLOCK, BLOCK])
    assert (index, found.action, found.reason, found.refusal) == (2, Action.BLOCK, "image 3: r", "no")
    assert worst([ALLOW, CAUTION])[1].safety_prompt == "mind"
    assert worst([verdict(Action.ALLOW, score=0.2), verdict(Action.ALLOW, score=0.3)])[0] == 1
    assert worst([CAUTION, BLOCK], ["at 0.0 s", "at 1.0 s"])[1].reason == "at 1.0 s: r"


def test_a_single_image_needs_no_name():
    assert worst([CAUTION]) == (0, CAUTION)


def test_a_failed_image_comes_first_and_softens_nothing():
    index, found = worst([BLOCK, FAILED])
    assert (index, found.error, found.action) == (1, "image_corrupt", Action.BLOCK)
    assert (found.refusal, found.safety_prompt) == ("no", "")
    assert found.reason == "image 2: r; block because of another"


def test_what_was_only_observed_ranks_as_what_was_meant():
    seen = [verdict(Action.ALLOW, observed=Action.ALLOW), verdict(Action.ALLOW, observed=Action.BLOCK)]
    index, found = worst(seen)
    assert (index, found.action, found.observed) == (1, Action.ALLOW, Action.BLOCK)
    failed = verdict(
        Action.ALLOW, category=None, level=None, score=None, error="image_corrupt", observed=Action.CAUTION
    )
    index, found = worst([failed, *seen])
    assert (index, found.action, found.observed) == (0, Action.ALLOW, Action.BLOCK)


def test_a_found_risk_speaks_before_a_failure_and_a_higher_level_before_a_lower_one():
    higher = verdict(Action.CAUTION, RiskLevel.HIGH, 0.6, safety_prompt="decline")
    assert safety_note([CAUTION, FAILED, ALLOW]) == "mind"
    assert safety_note([FAILED, CAUTION, higher]) == "decline"
    assert safety_note([FAILED]) == "unknown"
    assert safety_note([ALLOW]) == safety_note([]) == ""


def test_nothing_judged_is_nothing_harmless():
    with pytest.raises(ValueError, match="nothing was judged"):
        worst([])
    with pytest.raises(ValueError, match="2 names for 1"):
        worst([BLOCK], ["a", "b"])
