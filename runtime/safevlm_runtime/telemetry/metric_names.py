"""Every metric with its labels, and the closed sets that labels come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from safevlm_sdk import errors

STEPS = ("decode", "preprocess", "infer", "decide", "total")
ERROR_CODES = frozenset({getattr(errors, name).code for name in errors.__all__} | {"internal_error"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
        name: As Prometheus sees it.
        kind: What it is.
        says: One sentence.
        labels: Their names.
        buckets: Upper bounds of a histogram, in its unit.
        across_workers: How a gauge's values of several processes become one.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    says: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    across_workers: Literal["livesum", "livemax"] = "livesum"


METRICS = (
    Metric(
        name="safevlm_verdicts_total",
        kind="counter",
        says="Verdicts. Category and level are none where the gate failed.",
        labels=("entry", "action", "category", "level"),
    ),
    Metric(
        name="safevlm_errors_total", kind="counter", says="Verdicts of a gate that failed, by code.", labels=("code",)
    ),
    Metric(
        name="safevlm_gate_fail_open_total",
        kind="counter",
        says="Images that went on although the gate had failed: 0 unless the policy or its observe mode lets them.",
    ),
    Metric(
        name="safevlm_observed_total",
        kind="counter",
        says="What a policy that only observes would have done, by action.",
        labels=("action",),
    ),
    Metric(name="safevlm_cached_total", kind="counter", says="Verdicts that were taken from the cache of verdicts."),
    Metric(
        name="safevlm_requests_refused_total",
        kind="counter",
        says="Requests turned away before an image of theirs was judged, by code.",
        labels=("code",),
    ),
    Metric(name="safevlm_log_lines_lost_total", kind="counter", says="Lines that the decision log could not write."),
    Metric(
        name="safevlm_step_seconds",
        kind="histogram",
        says="Time of each step of a check.",
        labels=("step",),
        buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    ),
    Metric(name="safevlm_requests_waiting", kind="gauge", says="Requests that wait for their images to be judged."),
    Metric(name="safevlm_requests_judging", kind="gauge", says="Requests whose images are being judged."),
    Metric(
        name="safevlm_provider_info",
        kind="gauge",
        says="1 for the execution provider in use.",
        labels=("provider",),
        across_workers="livemax",
    ),
    Metric(
        name="safevlm_bundle_info",
        kind="gauge",
        says="1 for each bundle that judges.",
        labels=("name", "digest"),
        across_workers="livemax",
    ),
    Metric(
        name="safevlm_policy_info",
        kind="gauge",
        says="1 for each policy that is applied.",
        labels=("name", "digest"),
        across_workers="livemax",
    ),
)
