"""A verdict cannot be half a failure, and its JSON form is stable."""

from __future__ import annotations

import json

import numpy as np
import pytest

from safevlm_sdk.policy import Action
from safevlm_sdk.taxonomy import RiskLevel
from safevlm_sdk.verdict import Verdict


def verdict(**changes):
    parts = {
        "action": Action.BLOCK,
        "category": "privacy",
        "level": RiskLevel.HIGH,
        "score": 0.75,
        "categories": {"privacy": 0.75},
        "covered": ("privacy",),
        "uncovered": ("fairness",),
        "error": None,
        "reason": "privacy 0.750 >= 0.500",
        "timings_ms": {"total": 1.23456},
        "provider": "CPUExecutionProvider",
        "source_sha256": None,
        "raster_sha256": "sha256:0",
        "bundle_digests": ("sha256:1",),
        "policy_digests": ("sha256:2",),
        "attention": np.full((2, 2), 0.25, dtype=np.float32),
    }
    return Verdict(**(parts | changes))


FAILED = {
    "category": None,
    "level": None,
    "score": None,
    "categories": {},
    "error": "engine_failed",
    "attention": None,
}


def test_the_json_form_is_stable():
    assert json.loads(json.dumps(verdict().to_dict())) == {
        "schema": 1,
        "action": "block",
        "category": "privacy",
        "level": 3,
        "score": 0.75,
        "categories": {"privacy": 0.75},
        "covered": ["privacy"],
        "uncovered": ["fairness"],
        "error": None,
        "reason": "privacy 0.750 >= 0.500",
        "timings_ms": {"total": 1.235},
        "provider": "CPUExecutionProvider",
        "source_sha256": None,
        "raster_sha256": "sha256:0",
        "bundle_digests": ["sha256:1"],
        "policy_digests": ["sha256:2"],
        "region": None,
        "cached": False,
        "views": [],
        "views_judged": 0,
        "safety_prompt": "",
        "refusal": "",
        "observed": None,
    }


def test_a_failed_verdict_claims_no_risk():
    assert verdict(**FAILED).to_dict()["level"] is None
    assert not verdict(**FAILED).allowed
    for claim in ({"category": "privacy"}, {"level": RiskLevel.LOW}, {"score": 0.0}, {"action": Action.ALLOW}):
        with pytest.raises(ValueError, match="failed verdict"):
            verdict(**(FAILED | claim))


@pytest.mark.parametrize("part", ["category", "level", "score"])
def test_a_verdict_without_error_is_complete(part):
    with pytest.raises(ValueError, match="needs a category"):
        verdict(**{part: None})


def test_the_heatmap():
    assert verdict().heatmap().sum() == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no heatmap"):
        verdict(**FAILED).heatmap()


def test_it_is_frozen():
    with pytest.raises(AttributeError):
        verdict().action = Action.ALLOW
