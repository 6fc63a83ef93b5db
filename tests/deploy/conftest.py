"""Two `safevlm serve` with the starter, an upstream of each that keeps what it gets, and nginx in front of both."""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from safevlm_training.documents import examples

ROOT = Path(__file__).parents[2]
WORDS = ("one ", "two ", "three")
POLICY = """schema = 1
name = "strict"
uncovered = "allow"
[actions.privacy]
low = "block"
medium = "block"
high = "block"
"""
MAIN = """
daemon off;
{user}
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log info;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/safevlm.conf;
}}
"""


class Seen:
    """What the upstreams got, and when they may answer."""

    def __init__(self):
        self.changed = threading.Condition()
        self.requests = []
        self.answer = threading.Event()
        self.clear()

    def clear(self):
        self.requests.clear()
        self.answer.set()

    def add(self, gate, question):
        with self.changed:
            self.requests.append((gate, question))
            self.changed.notify_all()

    def wait_for(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.requests) >= count, 60), self.requests

    def gate_of(self, question):
        (gate,) = [gate for gate, asked in self.requests if asked == question]
        return gate


class Upstream(BaseHTTPRequestHandler):
    """A server of chat completions; `answer` holds it back, and a stream after its first piece."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._json({"object": "list", "data": [{"id": "m", "object": "model"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        seen = self.server.seen
        seen.add(self.server.gate, body["messages"][-1]["content"][0]["text"])
        if body.get("stream"):
            self._stream(seen)
        else:
            assert seen.answer.wait(120)
            message = {"role": "assistant", "content": "".join(WORDS)}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            self._json({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})

    def _stream(self, seen):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number, word in enumerate(WORDS):
            if number:
                assert seen.answer.wait(120)
            choice = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}
            piece = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            self._chunk(f"data: {json.dumps(piece)}\n\n".encode())
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _chunk(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _json(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 128

    def handle_error(self, request, client_address):
        """A gate that was killed is nothing to print."""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Gate:
    """`safevlm serve` on a port of its own, which it keeps when it is started again."""

    def __init__(self, upstream, policy):
        self.port, self.upstream, self.policy, self.process = free_port(), upstream, policy, None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        paths = [str(ROOT / name) for name in (".", "runtime", "export", "training")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "safevlm_sdk.command", "serve", "--starter", "--no-isolate"]
        options = ["--upstream", self.upstream, "--port", str(self.port), "--policy", str(self.policy)]
        self.process = subprocess.Popen([*command, *options], env=environment, stderr=subprocess.DEVNULL)

    def wait_until_ready(self):
        for _ in range(2400):
            assert self.process.poll() is None
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError("the gate did not start")

    def kill(self):
        """The machine goes away."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)


@pytest.fixture(scope="session")
def seen():
    """What the upstreams got."""
    return Seen()


@pytest.fixture(scope="session")
def policy(tmp_path_factory):
    """A file: what the starter flags is blocked."""
    path = tmp_path_factory.mktemp("policy") / "policy.toml"
    path.write_text(POLICY)
    return path


@pytest.fixture(scope="session")
def both_gates(seen, policy):
    """Two gates, each with an upstream of its own, so that it can be told which of them asked."""
    servers = [Server(("127.0.0.1", 0), Upstream) for _ in range(2)]
    for number, server in enumerate(servers):
        server.gate, server.seen = number, seen
        threading.Thread(target=functools.partial(server.serve_forever, 0.02), daemon=True).start()
    made = [Gate(f"http://127.0.0.1:{server.server_address[1]}", policy) for server in servers]
    for gate in made:
        gate.start()
    yield made
    for gate in made:
        gate.stop()
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def gates(both_gates, seen):
    """Both gates, ready, whose upstreams have seen nothing yet; one that a test killed is started again."""
    for gate in both_gates:
        if gate.process.poll() is not None:
            gate.start()
    for gate in both_gates:
        gate.wait_until_ready()
    seen.clear()
    yield both_gates
    seen.answer.set()


@pytest.fixture
def nginx(gates, tmp_path):
    """Address of nginx with the file of `examples/deploy`, of which nothing is changed but the ports."""
    ports = {"8787": gates[0].port, "8788": gates[1].port, "8080": free_port()}
    text = (ROOT / "examples" / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    text, changed = re.subn(r"127\.0\.0\.1:(\d+)", lambda found: f"127.0.0.1:{ports[found[1]]}", text)
    assert changed == 3
    (tmp_path / "safevlm.conf").write_text(text)
    user = "user root;" if os.geteuid() == 0 else ""
    (tmp_path / "nginx.conf").write_text(MAIN.format(folder=tmp_path, user=user))
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "there is no nginx: apt-get install nginx-light"
    with subprocess.Popen([program, "-p", tmp_path, "-c", tmp_path / "nginx.conf"]) as process:
        try:
            url = f"http://127.0.0.1:{ports['8080']}"
            for _ in range(400):
                assert process.poll() is None
                try:
                    httpx.get(f"{url}/", timeout=5)
                    break
                except httpx.TransportError:
                    time.sleep(0.025)
            yield url
        finally:
            process.terminate()
    assert "buffered to a temporary file" not in (tmp_path / "error.log").read_text()


def data_url(picture):
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@pytest.fixture(scope="session")
def drawn():
    """Data URLs of the generated examples, by category."""
    found = {}
    for _, sample in examples():
        found.setdefault(sample.category, []).append(data_url(sample.image))
    return found


@pytest.fixture(scope="session")
def body_of():
    """Makes the body of a chat completion."""

    def make(question, image, **fields):
        parts = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": image}}]
        return {"model": "m", "messages": [{"role": "user", "content": parts}], **fields}

    return make
