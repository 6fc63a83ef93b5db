"""Appends verdicts for ever, and says after each that it was written; `test_decision_log.py` kills it."""

from __future__ import annotations

import sys

from safevlm_runtime.judging.observer import Event
from safevlm_runtime.telemetry.decision_log import DecisionLog
from safevlm_sdk.policy import Action
from safevlm_sdk.taxonomy import RiskLevel
from safevlm_sdk.verdict import Verdict

path, max_bytes, name, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
log = DecisionLog(path, fsync="never", max_bytes=max_bytes, keep=50)
for number in range(count):
    verdict = Verdict(
        action=Action.ALLOW, category="safe", level=RiskLevel.NONE, score=0.1, categories={"privacy": 0.1},
        covered=("privacy",), uncovered=(), error=None, reason="x" * (number * 37 % 1500), timings_ms={"total": 1.0},
        provider="cpu", source_sha256=None, raster_sha256=None, bundle_digests=("sha256:" + "3" * 64,),
        policy_digests=(),
    )  # fmt: skip
    log.judged(verdict, Event(entry="sdk", moment=0.0, request_id=f"{name}-{number}"))
    print(number, flush=True)
