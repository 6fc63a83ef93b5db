"""Prometheus metrics of a gate, in a registry of their own.

Labels come from closed sets, so that nobody from outside can make new time series; what is in none is "other".

Several worker processes: set PROMETHEUS_MULTIPROC_DIR to an empty folder, as for every application of
prometheus-client, and any worker answers for all. Without it each worker counts for itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

from safevlm_runtime.judging.observer import Event
from safevlm_runtime.telemetry.metric_names import ERROR_CODES, METRICS, STEPS, Metric
from safevlm_sdk.errors import MissingExtra
from safevlm_sdk.verdict import Verdict

OTHER = "other"


class Metrics:
    """An `Observer` that counts; `exposition` is what a `/metrics` endpoint answers.

    Args:
        categories: The risks that the loaded bundles cover, as `Runtime.covered`.

    Raises:
        MissingExtra: prometheus-client is not installed.
    """

    def __init__(self, categories: Iterable[str]) -> None:
        self._client = _client()
        self._shared = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        self._registry = self._client.CollectorRegistry()
        self._metrics = {metric.name: self._made(metric) for metric in METRICS}
        self._categories = frozenset(categories) | {"safe"}
        self._described: dict[str, set[tuple[str, ...]]] = {}

    def judged(self, verdict: Verdict, event: Event) -> None:
        """Counts a verdict."""
        failed = verdict.error is not None
        category = "none" if verdict.category is None else verdict.category
        self._of(
            "safevlm_verdicts_total",
            entry=event.entry,
            action=verdict.action.value,
            category=category if failed or category in self._categories else OTHER,
            level="none" if verdict.level is None else verdict.level.name.lower(),
        ).inc()
        if failed:
            self._of("safevlm_errors_total", code=_known_code(verdict.error)).inc()
            if not event.blocked:
                self._of("safevlm_gate_fail_open_total").inc()
        if verdict.observed is not None:
            self._of("safevlm_observed_total", action=verdict.observed.value).inc()
        if verdict.cached:
            self._of("safevlm_cached_total").inc()
        for step in STEPS:
            if step in verdict.timings_ms:
                self._of("safevlm_step_seconds", step=step).observe(verdict.timings_ms[step] / 1e3)

    def refused(self, code: str) -> None:
        """Counts a request that was turned away before an image of it was judged."""
        self._of("safevlm_requests_refused_total", code=_known_code(code)).inc()

    def log_line_lost(self) -> None:
        """Counts a line that the decision log could not write; for `DecisionLog(on_lost=…)`."""
        self._of("safevlm_log_lines_lost_total").inc()

    def waiting(self, change: int) -> None:
        """One more (1) or one less (-1) request waits for its images to be judged."""
        self._of("safevlm_requests_waiting").inc(change)

    def judging(self, change: int) -> None:
        """The images of one more (1) or one less (-1) request are being judged."""
        self._of("safevlm_requests_judging").inc(change)

    def describe(self, *, provider: str, bundles: Mapping[str, str], policies: Mapping[str, str]) -> None:
        """Says what judges now; call it again after a policy was loaded anew.

        Args:
            provider: The execution provider in use.
            bundles: Digest to name.
            policies: Digest to name.
        """
        self._show("safevlm_provider_info", {(provider,)})
        self._show("safevlm_bundle_info", {(name, digest) for digest, name in bundles.items()})
        self._show("safevlm_policy_info", {(name, digest) for digest, name in policies.items()})

    def exposition(self) -> tuple[bytes, str]:
        """The metrics as text, and its content type."""
        registry = self._registry
        if self._shared:
            from prometheus_client import multiprocess

            registry = self._client.CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return self._client.generate_latest(_Counted(registry)), self._client.CONTENT_TYPE_LATEST

    def _made(self, metric: Metric) -> Any:
        options: dict[str, Any] = {"registry": self._registry}
        if metric.kind == "histogram":
            options["buckets"] = metric.buckets
        if metric.kind == "gauge":
            options["multiprocess_mode"] = metric.across_workers
        kind = {"counter": "Counter", "gauge": "Gauge", "histogram": "Histogram"}[metric.kind]
        return getattr(self._client, kind)(metric.name, metric.says, metric.labels, **options)

    def _of(self, name: str, **labels: str) -> Any:
        metric = self._metrics[name]
        return metric.labels(**labels) if labels else metric

    def _show(self, name: str, labels: set[tuple[str, ...]]) -> None:
        metric, before = self._metrics[name], self._described.get(name, set())
        for gone in before - labels:
            if self._shared:  # prometheus-client cannot remove there
                metric.labels(*gone).set(0)
            else:
                metric.remove(*gone)
        for new in labels:
            metric.labels(*new).set(1)
        self._described[name] = labels


class _Counted:
    """A registry without the time at which each counter began, which nobody needs and which doubles the text."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Any]:
        """Every metric, as `generate_latest` asks for them."""
        for metric in self._registry.collect():  # made anew at each call
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


def _known_code(code: str | None) -> str:
    return code if code is not None and code in ERROR_CODES else OTHER


def _client() -> ModuleType:
    try:
        import prometheus_client
    except ImportError as problem:
        raise MissingExtra("prometheus-client", "serve") from problem
    return prometheus_client
