"""What one worker process opens: the decision log as it was told, spans where they can be, the first question."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from safevlm_runtime.judging.observer import Event
from safevlm_runtime.proxy.server import shared
from safevlm_runtime.proxy.settings import Settings
from safevlm_runtime.proxy.upstream import Upstream, probe
from safevlm_runtime.telemetry.decision_log import DecisionLog
from safevlm_runtime.telemetry.metrics import Metrics
from safevlm_runtime.telemetry.spans import Spans
from safevlm_sdk.errors import ObserverFailed
from safevlm_sdk.policy import Action

RUNTIME = SimpleNamespace(
    covered=("privacy",), uncovered=(), digests=("sha256:0",), bundles=("colours",), policies=(), provider="cpu"
)


def opened(use, **options):
    """What `use` makes of a worker's gateway."""

    async def run():
        async with shared(Settings(upstream="http://127.0.0.1:9", **options), RUNTIME) as gateway:
            return use(gateway)

    return asyncio.run(run())


def test_observers_are_metrics_log_and_spans(tmp_path, monkeypatch):
    def kinds(gateway):
        return [type(one) for one in gateway.gate.observers]

    assert opened(kinds, decision_log=str(tmp_path / "log")) == [Metrics, DecisionLog, Spans]
    assert opened(kinds) == [Metrics, Spans]
    monkeypatch.setitem(sys.modules, "opentelemetry", None)  # as where it is not installed
    assert opened(kinds) == [Metrics]


def test_spans_carry_the_id_that_the_client_gets(make_proxy, pictures):
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    proxy = make_proxy(observers=(Spans(provider),))
    answer = proxy.client.post("/v1/check", json={"image": pictures["block"]})
    (span,) = exporter.get_finished_spans()
    provider.shutdown()
    assert span.attributes["safevlm.request_id"] == answer.headers["x-safevlm-verdict"]
    assert (span.attributes["safevlm.entry"], span.attributes["safevlm.action"]) == ("proxy", "block")


@pytest.mark.parametrize("log_errors", ["block", "count"])
def test_a_log_that_breaks_blocks_or_is_counted(tmp_path, make_verdict, log_errors):
    path = tmp_path / "log"

    def lose(gateway):
        path.unlink()
        path.mkdir()
        log = gateway.gate.observers[1]
        failed = False
        try:
            log.judged(make_verdict(Action.ALLOW), Event(entry="proxy", moment=0.0))
        except ObserverFailed:
            failed = True
        path.rmdir()
        return failed, "safevlm_log_lines_lost_total 1.0" in gateway.metrics.exposition()[0].decode()

    assert opened(lose, decision_log=str(path), log_errors=log_errors) == (log_errors == "block", True)


def test_the_start_waits_for_an_upstream_longer_than_readiness():
    seconds = []

    async def answer(request):
        seconds.append(request.extensions["timeout"]["read"])
        return httpx.Response(200)

    async def ask():
        settings, transport = Settings(upstream="http://a"), httpx.MockTransport(answer)
        upstream = Upstream(settings, transport)
        assert await probe(settings, transport)
        assert await upstream.reachable()
        await upstream.close()

    asyncio.run(ask())
    assert seconds == [15.0, 2.0]
