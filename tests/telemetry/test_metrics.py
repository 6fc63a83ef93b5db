"""Metrics: what is counted, under closed sets of labels."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import safevlm_runtime
from safevlm_runtime.judging.observer import Event
from safevlm_runtime.telemetry.metric_names import METRICS
from safevlm_runtime.telemetry.metrics import Metrics
from safevlm_sdk.errors import MissingExtra
from safevlm_sdk.policy import Action

DOCS = Path(__file__).parents[2] / "docs" / "telemetry.md"
BLOCKED = Event(entry="proxy", moment=0.0, blocked=True)
WENT_ON = Event(entry="guard", moment=0.0)


@pytest.fixture
def metrics():
    return Metrics(["privacy", "illegal_risk"])


def samples(metrics):
    """Name and labels to value."""
    families = text_string_to_metric_families(metrics.exposition()[0].decode())
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def test_verdicts_are_counted_by_what_was_decided(metrics, verdict):
    metrics.judged(verdict(), BLOCKED)
    metrics.judged(verdict(), BLOCKED)
    metrics.judged(verdict("safe"), WENT_ON)
    found = samples(metrics)
    blocked = {"action": "block", "category": "privacy", "entry": "proxy", "level": "medium"}
    allowed = {"action": "allow", "category": "safe", "entry": "guard", "level": "none"}
    assert found[("safevlm_verdicts_total", *blocked.items())] == 2
    assert found[("safevlm_verdicts_total", *allowed.items())] == 1
    assert found["safevlm_step_seconds_sum", ("step", "infer")] == pytest.approx(0.018)
    assert found["safevlm_step_seconds_bucket", ("le", "0.01"), ("step", "infer")] == 3
    assert found["safevlm_step_seconds_bucket", ("le", "0.005"), ("step", "infer")] == 0


def test_a_gate_that_failed_open_is_counted_and_one_that_blocked_is_not(metrics, verdict):
    assert samples(metrics)["safevlm_gate_fail_open_total",] == 0
    metrics.judged(verdict("failed"), BLOCKED)
    metrics.judged(verdict("safe"), WENT_ON)
    assert samples(metrics)["safevlm_gate_fail_open_total",] == 0
    metrics.judged(verdict("failed", action=Action.CAUTION), WENT_ON)
    metrics.judged(verdict("failed", action=Action.ALLOW, observed=Action.BLOCK), WENT_ON)
    found = samples(metrics)
    assert found["safevlm_gate_fail_open_total",] == 2
    assert found["safevlm_errors_total", ("code", "image_corrupt")] == 3
    assert found["safevlm_observed_total", ("action", "block")] == 1


def test_nobody_from_outside_makes_a_time_series(metrics, verdict):
    for number in range(50):
        metrics.judged(verdict(category=f"CANARY{number}"), BLOCKED)
        metrics.judged(verdict("failed", error=f"CANARY{number}"), BLOCKED)
        metrics.refused(f"CANARY{number}\n# HELP evil")
    text = metrics.exposition()[0].decode()
    assert "CANARY" not in text
    assert "holiday" not in text
    found = samples(metrics)
    assert found["safevlm_errors_total", ("code", "other")] == 50
    assert found["safevlm_requests_refused_total", ("code", "other")] == 50


def test_queue_cache_and_lost_lines(metrics, verdict):
    metrics.waiting(1)
    metrics.judging(1)
    metrics.waiting(-1)
    metrics.log_line_lost()
    metrics.judged(verdict("safe", cached=True), WENT_ON)
    found = samples(metrics)
    assert (found["safevlm_requests_waiting",], found["safevlm_requests_judging",]) == (0, 1)
    assert found["safevlm_log_lines_lost_total",] == found["safevlm_cached_total",] == 1


def test_a_policy_that_is_gone_is_no_longer_shown(metrics):
    metrics.describe(provider="cpu", bundles={"sha256:1": "starter"}, policies={"sha256:2": "old"})
    metrics.describe(provider="cpu", bundles={"sha256:1": "starter"}, policies={"sha256:3": "new"})
    found = samples(metrics)
    assert found["safevlm_policy_info", ("digest", "sha256:3"), ("name", "new")] == 1
    assert ("safevlm_policy_info", ("digest", "sha256:2"), ("name", "old")) not in found
    assert found["safevlm_provider_info", ("provider", "cpu")] == 1


def test_when_a_counter_began_is_not_told(metrics, verdict):
    metrics.judged(verdict(), BLOCKED)
    text = metrics.exposition()[0].decode()
    assert "_created" not in text
    assert "safevlm_step_seconds_bucket" in text


def test_two_instances_share_nothing(metrics, verdict):
    other = Metrics(["privacy"])
    metrics.judged(verdict("failed"), WENT_ON)
    assert samples(other)["safevlm_gate_fail_open_total",] == 0


def test_any_of_several_workers_answers_for_all(tmp_path):
    environment = {
        **os.environ,
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(map(str, Path(safevlm_runtime.__file__).parents[1:3])),
    }
    worker = [sys.executable, str(Path(__file__).with_name("metrics_worker.py"))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    workers = [subprocess.Popen(worker, **pipes) for _ in range(2)]
    for process in workers:
        assert process.stdout.readline() == "counted\n"
    text = workers[0].communicate("\n")[0]
    workers[1].communicate("\n")
    assert 'safevlm_requests_refused_total{code="overloaded"} 2.0' in text
    assert "safevlm_requests_waiting 2.0" in text
    assert 'safevlm_policy_info{digest="sha256:2",name="old"} 0.0' in text
    assert 'safevlm_policy_info{digest="sha256:3",name="new"} 1.0' in text


def test_without_prometheus_client_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtra, match=r"safevlm-sdk\[serve\]"):
        Metrics(["privacy"])


def test_the_documentation_lists_every_metric():
    rows = re.findall(r"^\| `(safevlm_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", DOCS.read_text(), re.MULTILINE)
    expected = [(m.name, m.kind, ", ".join(f"`{label}`" for label in m.labels), m.says) for m in METRICS]
    assert rows == expected
