"""`safevlm serve` as a command: what it says, where it refuses to start, several workers, and the starter bundle."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from safevlm_runtime.proxy import server
from safevlm_runtime.proxy.server import listening
from safevlm_runtime.proxy.settings import Settings
from safevlm_sdk.command import main
from safevlm_sdk.errors import OptionError
from safevlm_training.documents import examples

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "safevlm_sdk.command", "serve"]


@pytest.fixture
def environment():
    paths = [str(ROOT), *(str(ROOT / name) for name in ("runtime", "export", "training"))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def running():
    """The processes that `serve` has started."""
    return []


@pytest.fixture
def serve(environment, spy, running):
    """Starts the command and gives its address and what it said."""
    spy.clear()

    def start(*options):
        process = subprocess.Popen(
            [*COMMAND, "--upstream", spy.url, "--port", "0", *options],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        running.append(process)
        said = []
        while not said or not said[-1].startswith("policy:"):
            line = process.stderr.readline()
            if not line:
                raise AssertionError("".join(said))
            said.append(line.strip())
        return re.search(r"gate: (http://\S+)/v1", said[0])[1], said

    yield start
    for process in running:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=30)
        finally:
            process.kill()


@pytest.fixture
def card():
    """An invented identity card, which the starter flags."""
    picture = next(sample.image for _, sample in examples() if sample.category == "privacy")
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def next_line(process):
    """What it says next; nothing, and its end, if it does not."""
    timer = threading.Timer(60, process.terminate)
    timer.start()
    try:
        return process.stderr.readline()
    finally:
        timer.cancel()


def policy(name, action):
    """A policy with one action for every level."""
    actions = "".join(f'{level} = "{action}"\n' for level in ("low", "medium", "high"))
    head = f'schema = 1\nname = "{name}"\nuncovered = "allow"\n'
    return f"{head}[actions.privacy]\n{actions}[actions.politics]\n{actions}"


@pytest.fixture
def strict(tmp_path):
    """A policy that blocks every level."""
    path = tmp_path / "policy.toml"
    path.write_text(policy("strict", "block"))
    return path


@pytest.fixture
def refused(monkeypatch, capsys):
    """Runs the command, which must end with 1 and one line."""

    def run(*options):
        monkeypatch.setattr(sys, "argv", ["safevlm", "serve", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr().err
        assert (ended.value.code, said.count("\n")) == (1, 1), said
        return said

    return run


def test_it_says_what_it_covers_and_serves_the_starter(
    serve, running, spy, encode, raster_of, card, strict, tmp_path
):
    log = tmp_path / "decisions.jsonl"
    address, said = serve("--starter", "--log", str(log), "--policy", str(strict))
    assert "looked for: privacy; for nothing else" in said
    assert "wanted by the policy but not covered: politics" in said
    assert any(line.startswith("bundle: ") and "sha256:" in line for line in said)
    with httpx.Client(base_url=address, timeout=60) as client:
        assert client.get("/readyz").json()["covered"] == ["privacy"]
        photo = f"data:image/jpeg;base64,{base64.b64encode(encode((90, 120, 60), (640, 427), 'JPEG')).decode()}"
        verdict = client.post("/v1/check", json={"image": photo}).json()
        assert (verdict["action"], verdict["error"]) == ("allow", None)
        body = {
            "model": "m",
            "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": photo}}]}],
        }
        assert client.post("/v1/chat/completions", json=body).json()["id"] == "c"
        sent = spy.body()["messages"][0]["content"][0]["image_url"]["url"]
        assert raster_of(sent) == verdict["raster_sha256"]
        spy.clear()
        body["messages"][0]["content"][0]["image_url"]["url"] = card
        refused = client.post("/v1/chat/completions", json=body)
        metrics = client.get("/metrics").text
    assert refused.json()["choices"][0]["finish_reason"] == "content_filter"
    assert refused.headers["x-safevlm-action"] == "block"
    assert spy.data == b""
    assert re.search(
        r'safevlm_verdicts_total{action="block",category="privacy",entry="proxy",level="\w+"} 1.0', metrics
    )
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["action"] for line in lines] == ["allow", "allow", "block"]
    assert [line["raster_sha256"] for line in lines[:2]] == [verdict["raster_sha256"]] * 2
    running[0].terminate()
    assert running[0].communicate(timeout=60)[1] == "gate: ended\n"


def test_several_workers_serve_one_port(serve, running, encode):
    address, said = serve("--starter", "--workers", "2", "--no-isolate")
    assert f"page: {address}/" in said
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(httpx.Client(base_url=address, timeout=60)) for _ in range(8)]
        assert [client.get("/readyz").status_code for client in clients] == [200] * 8
        photo = encode((90, 120, 60))
        for client in clients:
            answer = client.post("/v1/check", content=photo, headers={"content-type": "image/png"})
            assert answer.json()["action"] == "allow"
        # Whichever worker answers, it answers for all of them.
        told = {
            line for client in clients for line in client.get("/metrics").text.splitlines() if 'entry="proxy"' in line
        }
    assert told == {'safevlm_verdicts_total{action="allow",category="safe",entry="proxy",level="none"} 8.0'}
    running[0].terminate()
    assert running[0].communicate(timeout=60)[1] == "gate: ended\n"


def test_a_hangup_puts_the_policy_in_force_as_it_is_now_and_a_broken_one_changes_nothing(
    serve, running, strict, card
):
    address, _ = serve("--starter", "--no-isolate", "--policy", str(strict))

    def hang_up(client, text):
        strict.write_text(text)
        running[0].send_signal(signal.SIGHUP)
        said = next_line(running[0])
        action = client.post("/v1/check", json={"image": card}).json()["action"]
        return said, list(client.get("/readyz").json()["policies"].values()), action

    with httpx.Client(base_url=address, timeout=60) as client:
        assert client.post("/v1/check", json={"image": card}).json()["action"] == "block"
        said, names, action = hang_up(client, policy("gentle", "caution"))
        assert f"policy {strict} is in force: gentle sha256:" in said
        assert (names, action) == (["gentle"], "caution")
        for broken in ("schema = ", policy("worse", "explode")):
            said, names, action = hang_up(client, broken)
            assert f"policy {strict} was refused (policy_" in said
            assert (names, action) == (["gentle"], "caution")
        shown = [line for line in client.get("/metrics").text.splitlines() if "safevlm_policy_info{" in line]
    assert len(shown) == 1
    assert 'name="gentle"' in shown[0]


def test_a_hangup_reaches_every_worker(serve, running, environment, strict, tmp_path):
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path / "metrics")
    (tmp_path / "metrics").mkdir()
    serve("--starter", "--no-isolate", "--workers", "2", "--policy", str(strict))
    for _ in range(2400):  # each worker has files of its own there once it answers signals
        if len({path.stem.rpartition("_")[2] for path in (tmp_path / "metrics").iterdir()}) == 2:
            break
        time.sleep(0.025)
    strict.write_text(policy("gentle", "caution"))
    running[0].send_signal(signal.SIGHUP)
    said = [next_line(running[0]) for _ in range(2)]
    assert all("is in force: gentle" in line for line in said), said


def test_a_broken_policy_is_one_clear_line(refused, spy, strict):
    strict.write_text("schema = ")
    assert "policy_invalid" in refused("--starter", "--policy", str(strict), "--upstream", spy.url)


def test_a_worker_that_dies_while_the_policy_is_broken_ends_the_gate_with_a_clear_line(
    serve, running, environment, strict, tmp_path
):
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
    address, _ = serve("--starter", "--no-isolate", "--workers", "2", "--policy", str(strict))
    for _ in range(2400):  # until both serve: each has files of its own, whose names end in its process id
        workers = {path.stem.rpartition("_")[2] for path in tmp_path.glob("*.db")}
        if len(workers) == 2:
            break
        time.sleep(0.025)
    strict.write_text("schema = ")
    os.kill(int(min(workers)), signal.SIGKILL)
    _, said = running[0].communicate(timeout=60)
    assert running[0].returncode == 1
    assert re.search(r"^error: policy_invalid: ", said, re.MULTILINE)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/healthz", timeout=5)


def test_a_wrong_bundle_is_one_clear_line(refused, spy, tmp_path):
    assert "bundle_missing" in refused("--bundle", str(tmp_path / "none"), "--upstream", spy.url)


def test_a_wrong_digest_is_one_clear_line(refused, spy):
    assert "bundle_digest" in refused("--starter", "--digest", "sha256:" + "0" * 64, "--upstream", spy.url)


def test_an_upstream_that_does_not_answer_is_one_clear_line(refused):
    said = refused("--starter", "--upstream", "http://127.0.0.1:9", "--port", "0")
    assert "engine_unavailable" in said
    assert "--no-upstream-check" in said


def test_a_used_port_ends_the_process_with_one_clear_line(environment, spy):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        options = ["--starter", "--upstream", spy.url, "--port", port]
        done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 1
    assert re.fullmatch(rf"error: listen_failed: .*:{port} .*\n", done.stderr)


def test_which_gate_must_be_said(refused, spy):
    assert "--bundle DIR, or --starter" in refused("--upstream", spy.url)


def test_a_host_of_images_must_be_a_name(refused, spy):
    said = refused("--starter", "--upstream", spy.url, "--allow-images-from", "127.0.0.1")
    assert "option_invalid" in said


@pytest.mark.parametrize(
    "upstream", ["127.0.0.1:8000", "ftp://a", "http://user:key@a", "http://a?b", "http://a#b", "http://"]
)
def test_an_upstream_that_is_no_plain_address_is_refused(upstream):
    with pytest.raises(OptionError, match="upstream"):
        Settings(upstream=upstream)


@pytest.mark.parametrize("upstream", ["http://a:8000", "http://a:8000/", "http://a:8000/v1", "http://a:8000/v1/"])
def test_the_upstream_is_taken_with_or_without_v1(upstream):
    assert Settings(upstream=upstream).api == "http://a:8000/v1"


@pytest.mark.parametrize(
    ("workers", "threads", "cores", "each"),
    [(1, None, 8, None), (1, 3, 8, 3), (2, None, 8, 4), (3, None, 8, 2), (8, None, 2, 1), (2, 5, 8, 5)],
)
def test_the_graphs_of_several_workers_share_the_cores(workers, threads, cores, each):
    assert Settings(upstream="http://a", workers=workers, threads=threads).threads_of(cores) == each


def test_every_worker_gets_its_share(monkeypatch):
    seen = {}
    monkeypatch.setattr(server.Runtime, "starter", lambda **options: seen.update(options))
    monkeypatch.setattr(server, "cores", lambda: 6)
    server.load(Settings(upstream="http://a", workers=2))
    assert seen["threads"] == 3


def test_the_listening_socket_lets_answers_go_at_once():
    # asyncio switches Nagle's delay off only where the socket names its protocol.
    with listening(Settings(upstream="http://a", port=0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_the_runtime_alone_loads_nothing_of_the_server(environment):
    code = (
        "import sys, safevlm_sdk, safevlm_runtime; safevlm_runtime.Runtime;"
        "bad = {'starlette', 'uvicorn', 'httpx', 'prometheus_client', 'safevlm_runtime.proxy'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
