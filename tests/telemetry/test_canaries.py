"""Nothing of an image, its file's name, its metadata or its request comes out of any observer."""

from __future__ import annotations

import base64
import json
import time

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from safevlm_runtime import Runtime
from safevlm_runtime.judging.observer import Event, notify
from safevlm_runtime.telemetry.decision_log import DecisionLog
from safevlm_runtime.telemetry.metrics import Metrics
from safevlm_runtime.telemetry.spans import Spans

CANARY = "CANARY\r\n\x1b[31m"


@pytest.fixture
def images(tmp_path, paint):
    """What may be passed to a check, with a canary wherever one fits."""
    metadata, exif = PngInfo(), Image.Exif()
    metadata.add_text("CANARY", CANARY)
    exif[0x010E] = CANARY
    good, cut, text = tmp_path / "CANARY-good.png", tmp_path / "CANARY-cut.png", tmp_path / "CANARY.txt"
    Image.fromarray(paint(0, 0, 250)).save(good, pnginfo=metadata, exif=exif)
    cut.write_bytes(good.read_bytes()[:80])
    text.write_text(CANARY)
    return [good, cut, text, tmp_path / "CANARY-missing", tmp_path, good.read_bytes(), CANARY.encode(), CANARY]


def test_no_canary_comes_out_of_any_observer(bundle, images, tmp_path, caplog, capfd):
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    log = tmp_path / "log.jsonl"
    with Runtime.load(bundle) as runtime:
        metrics = Metrics(runtime.covered)
        observers = [metrics, DecisionLog(log), Spans(provider)]
        for image in images:
            event = Event(entry="proxy", moment=time.time(), request_id=CANARY, source=CANARY, blocked=True)
            notify(observers, runtime.check(image), event)
    provider.shutdown()
    spans = "".join(span.to_json() for span in exporter.get_finished_spans())
    out, err = capfd.readouterr()
    pixels = base64.b64encode(images[5]).decode()[:40]
    for text in (log.read_text(), metrics.exposition()[0].decode(), spans, caplog.text, out, err):
        assert "CANARY" not in text
        assert pixels not in text
        assert "\x1b" not in text
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(records) == len(exporter.get_finished_spans()) == len(images)
    assert len({record["error"] for record in records}) >= 4  # the canaries went through several failures
    assert records[0]["raster_sha256"] == records[5]["raster_sha256"]
