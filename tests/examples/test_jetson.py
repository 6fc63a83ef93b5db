"""examples/jetson.py on the processor: a demand is a demand, a fallback is told, a failing gate is not measured."""

from __future__ import annotations

import re

import numpy as np
import pytest

from safevlm_runtime import Runtime
from safevlm_runtime.bundle.reader import starter_path
from safevlm_sdk.errors import SafeVLMError

BUNDLE = starter_path()
SHORT = ["--frames", "3", "--warm-up", "1"]


@pytest.fixture
def jetson(load):
    return load("jetson.py")


@pytest.fixture
def brief(jetson, monkeypatch):
    """Without asking the machine, which takes seconds."""
    monkeypatch.setattr(jetson, "tell_machine", lambda say: None)
    return jetson


def test_it_tells_the_machine_the_provider_and_each_step(jetson, pictures, tmp_path, capsys):
    pictures["scene_hills"].resize((320, 240)).save(tmp_path / "frame.png")
    image = ["--image", str(tmp_path / "frame.png")]
    assert jetson.main([str(BUNDLE), "--provider", "cpu", *image, *SHORT]) == 0
    out = capsys.readouterr().out
    for wanted in (r"^machine: .*Python 3\.", r"^GPU: ", r"^TensorRT: ", r"^judges with CPUExecutionProvider; "):
        assert re.search(wanted, out, re.MULTILINE), wanted
    assert re.search(r"^3 frames of 320 x 240, one at a time: [\d.]+ per second$", out, re.MULTILINE)
    for step in ("preprocess", "infer", "decide", "total"):
        assert re.search(rf"^  {step} +[\d.]+ ms at the median", out, re.MULTILINE), step
    assert "FELL BACK" not in out


def test_nothing_falls_back_by_itself(brief, capsys):
    assert brief.main([str(BUNDLE), "--provider", "cuda", *SHORT]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("error: provider_mismatch: CUDAExecutionProvider")
    assert "per second" not in shown.out


def test_a_fallback_that_is_asked_for_is_told_and_has_its_exit_code(brief, capsys):
    assert brief.main([str(BUNDLE), "--provider", "cuda", "--then", "cpu", *SHORT]) == brief.FELL_BACK
    out = capsys.readouterr().out
    assert "FELL BACK: provider cuda is not used: provider_mismatch: " in out
    assert "judges with CPUExecutionProvider" in out
    assert "3 frames of 1280 x 720" in out


def test_tensorrt_is_demanded_by_default(brief, monkeypatch, capsys):
    asked = []

    def refuse(bundle, **options):
        asked.append((options["provider"], options["digest"]))
        raise SafeVLMError("no engine")

    monkeypatch.setattr(brief.Runtime, "load", refuse)
    assert brief.main([str(BUNDLE), "--digest", "sha256:0"]) == 1
    assert asked == [(("tensorrt",), "sha256:0")]
    assert capsys.readouterr().err.endswith("no engine\n")


def test_a_bundle_with_another_digest_is_refused(brief, capsys):
    assert brief.main([str(BUNDLE), "--provider", "cpu", "--digest", "sha256:" + "0" * 64]) == 1
    assert capsys.readouterr().err.startswith("error: bundle_digest: ")


def test_a_gate_that_fails_is_not_measured(jetson):
    said, runtime = [], Runtime.starter()
    runtime.close()
    with pytest.raises(SystemExit, match="nothing is measured: engine_failed"):
        jetson.measure(runtime, np.zeros((64, 64, 3), np.uint8), warm_up=0, frames=2, say=said.append)
    assert said == []
