"""Verdicts to record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from safevlm_sdk.policy import Action
from safevlm_sdk.taxonomy import RiskLevel
from safevlm_sdk.verdict import Verdict

JUDGED = Verdict(
    action=Action.BLOCK, category="privacy", level=RiskLevel.MEDIUM, score=0.97,
    categories={"privacy": 0.93, "illegal_risk": 0.04}, covered=("privacy", "illegal_risk"), uncovered=("fairness",),
    error=None, reason="privacy 0.930 >= 0.600", provider="CPUExecutionProvider",
    timings_ms={"decode": 2.0, "preprocess": 0.5, "infer": 6.0, "decide": 0.1, "total": 9.0},
    source_sha256="sha256:" + "1" * 64, raster_sha256="sha256:" + "2" * 64,
    bundle_digests=("sha256:" + "3" * 64,), policy_digests=("sha256:" + "4" * 64,),
)  # fmt: skip
SAFE: dict[str, Any] = {"action": Action.ALLOW, "category": "safe", "level": RiskLevel.NONE, "score": 0.01}
FAILED: dict[str, Any] = {
    "category": None, "level": None, "score": None, "categories": {}, "error": "image_corrupt", "provider": None,
    "reason": "CANARY-secret-holiday.jpg: is truncated", "raster_sha256": None,
}  # fmt: skip


@pytest.fixture
def verdict() -> Callable[..., Verdict]:
    """Makes a verdict: of a `kind` ("risky", "safe", "failed"), with other fields as given."""
    kinds = {"risky": {}, "safe": SAFE, "failed": FAILED}
    return lambda kind="risky", **fields: replace(JUDGED, **{**kinds[kind], **fields})
