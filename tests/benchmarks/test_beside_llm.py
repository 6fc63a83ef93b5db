"""The gate beside a language model: what follows from the phases, and both scripts on tiny models."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from safevlm_runtime.bench.readings import Rail

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def beside(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("beside_llm")


@pytest.fixture
def first_token(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("first_token")


def gate(begin, end, every, ms):
    starts = [begin + every * number for number in range(int((end - begin) / every))]
    return {"begin": begin, "end": end, "starts": starts, "ms": [ms] * len(starts)}


def llm(begin, end, every):
    return {"begin": begin, "end": end, "times": [begin + every * n for n in range(int((end - begin) / every) + 1)]}


def test_only_what_happened_while_both_were_at_work_counts(beside):
    both = {"gate": gate(2.0, 6.0, 0.5, 250.0), "llm": llm(1.0, 5.0, 0.25)}
    assert beside.common(both) == (2.0, 5.0)
    assert len(beside.checks_within(both["gate"], (2.0, 5.0))) == 6  # the one at 4.5 ends at 4.75
    assert len(beside.checks_within(both["gate"], (2.0, 4.7))) == 5
    assert beside.tokens_per_second(both["llm"], (2.0, 5.0)) == 4.0
    assert beside.gaps_within(both["llm"], (2.0, 3.0)) == [250.0] * 4


def test_lost_tokens_are_paired_by_round(beside):
    def one(speed):
        return {
            "gate": {"gate": gate(0.0, 4.0, 0.5, 100.0)},
            "llm": {"llm": llm(0.0, 4.0, 0.125 / speed)},
            "both": {"gate": gate(0.0, 4.0, 0.5, 300.0), "llm": llm(0.0, 4.0, 0.25 / speed)},
        }

    found = beside.figures([one(1), one(2)])  # the second round was twice as fast as a whole
    assert found["gate_alone_ms_p50_p95_p99"] == [100.0] * 3
    assert found["gate_beside_ms_p50_p95_p99"] == [300.0] * 3
    assert found["gate_p50_beside_over_alone"] == 3.0
    assert found["checks_alone_and_beside"] == [16, 16]
    assert (found["tokens_per_second_alone"], found["tokens_per_second_beside"]) == (12.0, 6.0)
    assert found["tokens_lost"] == 0.5
    assert found["decoding_ms_lost_per_image"] == 250.0  # half of four seconds over eight images
    assert found["tokens_per_second_by_round"] == {"alone": [8.0, 16.0], "beside": [4.0, 8.0]}


def test_phases_that_hardly_met_give_no_figure(beside):
    apart = {"gate": gate(0.0, 1.0, 0.5, 100.0), "llm": llm(0.9, 4.0, 0.25)}
    with pytest.raises(SystemExit, match="give more --seconds"):
        beside.figures([{"gate": {"gate": apart["gate"]}, "llm": {"llm": apart["llm"]}, "both": apart}])


def test_energy_is_of_the_phase_and_above_what_decoding_takes(beside):
    spent = {}
    for _ in range(2):
        with beside.metered([Rail(name="a", read=lambda: 6.0, counts=False)], spent):
            pass
    assert spent["joules"]["a"] == pytest.approx(6.0 * spent["seconds"])
    without = {}
    with beside.metered([], without):
        pass
    assert "joules" not in without
    spent = {
        "gate": {"seconds": 10.0, "joules": {"a": 60.0}},
        "llm": {"seconds": 10.0, "joules": {"a": 80.0}},
        "both": {"seconds": 10.0, "joules": {"a": 100.0}},
    }
    found = beside.energies(spent, {"gate": 20, "both": 10}, {"a": 2.0})
    assert found["gate_alone"]["a"]["joules_per_image_above_idle"] == 2.0
    assert found["gate_beside"]["a"]["joules_per_image_above_idle"] == 2.0
    assert beside.energies({"gate": {"seconds": 1.0}}, {}, {}) is None


def test_what_a_gate_adds_is_paired_by_turn(first_token):
    clock = iter(range(1000))

    def way(more):
        return lambda: (100.0 + 50 * (next(clock) > 20) + more, "text")

    found = first_token.in_turns({"engine": way(0), "guard": way(7), "proxy": way(9)}, 12)
    added = found["added_ms_median_and_interval"]
    assert {name: values[0] for name, values in added.items()} == {"guard": 7.0, "proxy": 9.0}
    assert set(found["ms_p50_p95_p99"]) == {"engine", "guard", "proxy"}


def test_the_first_token_is_the_first_text(first_token):
    taken, text = first_token.first(0.0, iter([None, "", "a", "b"]))
    assert taken > 0
    assert text == "ab"
    with pytest.raises(SystemExit, match="no text"):
        first_token.first(0.0, iter([None, ""]))


def test_a_family_is_all_that_a_process_started(first_token):
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    started = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    started.stdout.readline()
    members = first_token.peaks(started.pid)
    started.communicate(b"\n")
    assert list(members) == ["itself", "child 1"]
    assert all(mib > 1 for mib in members.values())


class Engine(BaseHTTPRequestHandler):
    """Streams an answer; the server keeps what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send("application/json", b'{"object": "list", "data": []}')

    def do_POST(self):
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        deltas = [({"role": "assistant", "content": ""}, None), ({"content": "An answer."}, None), ({}, "stop")]
        chunks = [head | {"choices": [{"index": 0, "delta": delta, "finish_reason": end}]} for delta, end in deltas]
        lines = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
        self.send("text/event-stream", f"{lines}data: [DONE]\n\n".encode())

    def send(self, kind, data):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def engine():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_a_tiny_model_a_gate_and_an_engine(bundle, paint, engine, tmp_path):
    Image.fromarray(paint(60, 200, 60)).save(tmp_path / "green.jpg")
    places = os.pathsep.join(str(ROOT / name) for name in ("", "runtime", "training"))
    command = [sys.executable, str(BENCHMARKS / "beside_llm.py"), "--bundle", str(bundle), "--llm-size", "tiny"]
    command += ["--llm-device", "cpu", "--seconds", "0.5", "--rounds", "1", "--idle", "0", "--threads", "1"]
    command += ["--llm-threads", "1", "--image", str(tmp_path / "green.jpg"), "--out", str(tmp_path / "out.json")]
    command += ["--engine-url", f"http://127.0.0.1:{engine.server_port}", "--engine-model", "m", "--asks", "2"]
    environment = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == found
    result = found["result"]
    assert min(result["checks_alone_and_beside"]) > 0
    assert min(result["tokens_per_second_alone"], result["tokens_per_second_beside"]) > 0
    assert (result["llm"]["device"], result["gate"]["provider"]) == ("cpu", "CPUExecutionProvider")
    assert result["peak_mib"]["llm"] > result["peak_mib"]["gate"] > 10
    assert result["peak_mib"]["llm_on_its_gpu"] is None
    assert set(result["first_token"]["ms_p50_p95_p99"]) == {"engine", "guard", "proxy"}
    assert result["first_token"]["peak_mib"]["proxy"]["itself"] > 10
    kinds = [one["messages"][-1]["content"][0]["image_url"]["url"].partition(";")[0] for one in engine.asked]
    assert len(kinds) == 3 * (3 + 2)
    assert kinds.count("data:image/jpeg") == 5  # asked itself it gets the file, behind a gate the judged pixels
    assert kinds.count("data:image/png") == 10


def test_an_image_that_is_not_allowed_measures_nothing(first_token, bundle, paint, engine, tmp_path):
    Image.fromarray(paint(0, 0, 250)).save(tmp_path / "blue.png")
    options = argparse.Namespace(
        engine_url=f"http://127.0.0.1:{engine.server_port}", engine_model="m", bundle=bundle, digest=None,
        provider="cpu", threads=1, asks=1,
    )  # fmt: skip
    with pytest.raises(SystemExit, match="does not allow"):
        first_token.measure_first_token(options, tmp_path / "blue.png", tmp_path)
    assert engine.asked == []
