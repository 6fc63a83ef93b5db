"""Spans: one per verdict, with nothing in it that must not leave."""

from __future__ import annotations

import json
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from safevlm_runtime.judging.observer import Event
from safevlm_runtime.telemetry.spans import Spans
from safevlm_sdk.errors import MissingExtra


@pytest.fixture
def traced():
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter
    provider.shutdown()


def test_a_span_is_as_long_as_the_check_and_lies_below_the_callers(traced, verdict):
    provider, exporter = traced
    spans = Spans(provider)
    with provider.get_tracer("application").start_as_current_span("request") as parent:
        spans.judged(verdict(), Event(entry="proxy", moment=1_700_000_000.0, request_id="r-1", blocked=True))
    span = exporter.get_finished_spans()[0]
    assert span.name == "safevlm.check"
    assert span.parent.span_id == parent.get_span_context().span_id
    assert span.end_time == 1_700_000_000 * 10**9
    assert span.end_time - span.start_time == 9_000_000
    assert span.attributes["safevlm.action"] == "block"
    assert span.attributes["safevlm.level"] == 2
    assert span.attributes["safevlm.infer_ms"] == 6.0
    assert span.attributes["safevlm.bundle_digests"] == ("sha256:" + "3" * 64,)
    assert "safevlm.observed" not in span.attributes
    assert span.status.status_code is StatusCode.UNSET


def test_a_failed_gate_is_an_error_and_no_text_of_strangers_leaves(traced, verdict):
    provider, exporter = traced
    event = Event(entry="proxy", moment=0.0, request_id="CANARY\r\n", source="CANARY one")
    Spans(provider).judged(verdict("failed"), event)
    span = exporter.get_finished_spans()[0]
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "image_corrupt"
    assert "CANARY" not in json.dumps(dict(span.attributes))


def test_without_opentelemetry_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingExtra, match=r"safevlm-sdk\[tracing\]"):
        Spans()
