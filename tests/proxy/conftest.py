"""A real proxy between a client and an upstream that records every byte; a screener that judges by colour."""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image

from safevlm_runtime.judging.screening import Screening
from safevlm_runtime.proxy.app import make_app
from safevlm_runtime.proxy.connection import PatientConnection
from safevlm_runtime.proxy.gateway import Coverage, open_gateway
from safevlm_runtime.proxy.server import listening, server_config
from safevlm_runtime.proxy.settings import ProxyLimits, Settings
from safevlm_sdk.errors import ImageError
from safevlm_sdk.policy import Action
from safevlm_sdk.raster import decode, raster_digest
from safevlm_sdk.taxonomy import RiskLevel
from safevlm_sdk.verdict import Verdict

NOTE = "Safety note: the image shows something risky."
REFUSAL = "I cannot help with this image."
GREEN, BLUE, CYAN, RED, BLACK = (0, 250, 0), (0, 0, 250), (0, 250, 250), (250, 0, 0), (0, 0, 0)
MAGENTA = (250, 0, 250)


def verdict_of(action: Action, *, error: str | None = None, sha256: str | None = None, level: int = 2) -> Verdict:
    judged = error is None
    risky = judged and action is not Action.ALLOW
    return Verdict(
        action=action,
        category=("privacy" if risky else "safe") if judged else None,
        level=(RiskLevel(level) if risky else RiskLevel.NONE) if judged else None,
        score=(0.9 if risky else 0.1) if judged else None,
        categories={"privacy": 0.9 if risky else 0.1, "fairness": 0.05} if judged else {},
        covered=("privacy", "fairness"),
        uncovered=(),
        error=error,
        reason="by its colour",
        timings_ms={"total": 1.0},
        provider="cpu",
        source_sha256=None,
        raster_sha256=sha256,
        bundle_digests=("sha256:" + "0" * 64,),
        policy_digests=("sha256:" + "1" * 64,),
        attention=np.full((2, 2), 0.25, np.float32) if judged else None,
        safety_prompt=f"{NOTE} {level}" if action is Action.CAUTION else "",
        refusal=REFUSAL if action is Action.BLOCK else "",
    )


class ByColour:
    """Red is blocked, blue and cyan are cautioned, green is allowed.

    Black makes the engine fail; so does magenta, under a policy that lets such images pass with caution.
    """

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []
        self.hold = threading.Event()
        self.hold.set()

    def screen(self, image: bytes, *, source: str | None = None) -> Screening:
        self.hold.wait(20)
        try:
            raster = decode(image, max_side=64)
        except ImageError as problem:
            return self._noted(Screening(verdict=verdict_of(Action.BLOCK, error=problem.code), raster=None))
        red, green, blue = (int(value) > 127 for value in raster.frames[0].pixels[0, 0])
        sha256, failed = raster.frames[0].sha256, not (red or green or blue)
        doubt = red and blue
        action = Action.BLOCK if failed or (red and not blue) else Action.CAUTION if blue else Action.ALLOW
        verdict = verdict_of(
            action,
            error="engine_failed" if failed or doubt else None,
            sha256=sha256,
            level=3 if green and blue else 2,
        )
        return self._noted(Screening(verdict=verdict, raster=raster))

    def _noted(self, found: Screening) -> Screening:
        self.verdicts.append(found.verdict)
        return found


class Recorder:
    """A file that keeps what is read from it."""

    def __init__(self, file: Any, kept: bytearray) -> None:
        self._file, self._kept = file, kept

    def read(self, size: int = -1) -> bytes:
        return self._keep(self._file.read(size))

    def readline(self, size: int = -1) -> bytes:
        return self._keep(self._file.readline(size))

    def close(self) -> None:
        self._file.close()

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    def _keep(self, data: bytes) -> bytes:
        self._kept.extend(data)
        return data


CHUNKS = [
    {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [
        {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}]}
    for word in ("one ", "two ", "three")
]  # fmt: skip
COMPLETION = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "an answer"}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}  # fmt: skip


class Spy(ThreadingHTTPServer):
    """An upstream that keeps every byte it gets; `mode` says how it answers."""

    daemon_threads = True

    def __init__(self) -> None:
        self.data = bytearray()
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.mode = "answer"
        self.much = False
        self.last = b""
        self.broken = threading.Event()
        self.go_on = threading.Event()
        super().__init__(("127.0.0.1", 0), SpyHandler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def clear(self) -> None:
        self.data.clear()
        self.requests.clear()
        self.mode, self.much, self.last = "answer", False, b""
        self.broken.clear()
        self.go_on.clear()

    def body(self) -> Any:
        return json.loads(self.requests[-1][2])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A proxy that breaks a connection off is nothing to print."""


class SpyHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Spy

    def setup(self) -> None:
        super().setup()
        self.rfile = Recorder(self.rfile, self.server.data)  # type: ignore[assignment]

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self._json({"object": "list", "data": [{"id": "m", "object": "model"}]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        getattr(self, f"_{self.server.mode}")(json.loads(body))

    def _answer(self, body: Any) -> None:
        if body.get("stream"):
            self._events([f"data: {json.dumps(chunk)}\n\n".encode() for chunk in CHUNKS] + [b"data: [DONE]\n\n"])
        else:
            self._json(COMPLETION)

    def _error(self, body: Any) -> None:
        self._json({"error": {"message": "no such model", "code": "model_not_found"}}, 404)

    def _reset(self, body: Any) -> None:
        """Breaks off in the middle of an event."""
        self._begin_events()
        self._chunk(f'data: {json.dumps(CHUNKS[0])}\n\ndata: {{"cut'.encode())
        self.close_connection = True

    def _close(self, body: Any) -> None:
        """Ends a stream by closing the connection, behind `last` or in the middle of the answer."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(f"data: {json.dumps(CHUNKS[0])}\n\n".encode() + self.server.last)
        self.close_connection = True

    def _hangup(self, body: Any) -> None:
        """Goes away without an answer."""
        self.close_connection = True

    def _endless(self, body: Any) -> None:
        """Streams until the other side goes away."""
        self._begin_events()
        try:
            while not self.server.go_on.wait(0.01):
                self._chunk(f"data: {json.dumps(CHUNKS[0])}\n\n".encode() * (2000 if self.server.much else 1))
        except OSError:
            self.server.broken.set()
        self.close_connection = True

    def _silent(self, body: Any) -> None:
        """Says nothing until the other side goes away."""
        self.connection.settimeout(20)
        with contextlib.suppress(OSError):
            if self.connection.recv(1) == b"":
                self.server.broken.set()
        self.close_connection = True

    def _events(self, events: list[bytes]) -> None:
        self._begin_events()
        for event in events:
            self._chunk(event)
        self._chunk(b"")

    def _begin_events(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("x-secret-internal", "no client sees this")
        self.end_headers()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _json(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Proxy:
    """A running proxy and a client of it."""

    def __init__(self, settings: Settings, screener: Any, **options: Any) -> None:
        self.screener = screener
        http: type[PatientConnection] = options.pop("http", PatientConnection)

        @asynccontextmanager
        async def opener():
            coverage = Coverage(
                covered=("privacy", "fairness"), uncovered=("politics",), bundles={"sha256:0": "colours"},
                policies={"sha256:1": "test"}, provider="cpu",
            )  # fmt: skip
            self.gateway = open_gateway(settings, screener, coverage, **options)
            yield self.gateway
            await self.gateway.close()

        self._listener = listening(settings)
        self.port = self._listener.getsockname()[1]
        config = server_config(settings, make_app(opener))
        config.http = http
        config.timeout_graceful_shutdown = 1
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],), daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the proxy did not start")
            time.sleep(0.005)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def chat(self, content: Any, **fields: Any) -> httpx.Response:
        messages = [{"role": "user", "content": content}]
        return self.client.post("/v1/chat/completions", json={"model": "m", "messages": messages, **fields})

    def raw(self, body: bytes, path: str = "/v1/chat/completions", **headers: str) -> httpx.Response:
        return self.client.post(path, content=body, headers={"content-type": "application/json", **headers})

    def stop(self) -> None:
        self.client.close()
        self._server.should_exit = True
        self._thread.join(20)
        self._listener.close()


def png(colour: tuple[int, int, int], size: tuple[int, int] = (16, 16), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


def data_url(colour: tuple[int, int, int], kind: str = "PNG", size: tuple[int, int] = (16, 16)) -> str:
    return f"data:image/{kind.lower()};base64,{base64.b64encode(png(colour, size, kind)).decode()}"


@pytest.fixture(scope="session")
def spy() -> Iterator[Spy]:
    server = Spy()
    thread = threading.Thread(target=functools.partial(server.serve_forever, 0.02), daemon=True)
    thread.start()
    yield server
    server.go_on.set()
    server.shutdown()
    thread.join(20)
    server.server_close()


@pytest.fixture(scope="session")
def one_proxy(spy: Spy) -> Iterator[Proxy]:
    proxy = Proxy(Settings(upstream=spy.url, port=0), ByColour())
    yield proxy
    proxy.stop()


@pytest.fixture
def proxy(one_proxy: Proxy, spy: Spy) -> Proxy:
    """A proxy whose upstream has seen nothing yet."""
    spy.clear()
    one_proxy.screener.verdicts.clear()
    return one_proxy


@pytest.fixture(scope="session")
def start_proxy(spy: Spy) -> Callable[..., Proxy]:
    """Starts a proxy with other settings, which the caller stops."""

    def start(screener: Any = None, limits: ProxyLimits | None = None, **options: Any) -> Proxy:
        fields = {name: options.pop(name) for name in ("upstream", "image_hosts") if name in options}
        settings = Settings(**{"upstream": spy.url, "port": 0, "limits": limits or ProxyLimits(), **fields})
        return Proxy(settings, screener or ByColour(), **options)

    return start


@pytest.fixture
def make_proxy(spy: Spy, start_proxy: Callable[..., Proxy]) -> Iterator[Callable[..., Proxy]]:
    """Starts further proxies with other settings, and stops them."""
    spy.clear()
    made: list[Proxy] = []

    def make(*arguments: Any, **options: Any) -> Proxy:
        made.append(start_proxy(*arguments, **options))
        return made[-1]

    yield make
    for proxy in made:
        proxy.stop()


@pytest.fixture(scope="session")
def colours() -> dict[str, tuple[int, int, int]]:
    """Colours by what the screener does with them."""
    return {"allow": GREEN, "caution": BLUE, "worse": CYAN, "block": RED, "fail": BLACK, "doubt": MAGENTA}


@pytest.fixture(scope="session")
def pictures(colours: dict[str, tuple[int, int, int]]) -> dict[str, str]:
    """Data URLs by what the screener does with them."""
    found = {name: data_url(colour) for name, colour in colours.items()}
    broken = base64.b64encode(png(GREEN)[:-20]).decode()
    return found | {"jpeg": data_url(GREEN, "JPEG"), "broken": f"data:image/png;base64,{broken}"}


@pytest.fixture(scope="session")
def make_verdict() -> Callable[..., Verdict]:
    """Makes verdicts."""
    return verdict_of


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """Encodes a picture of one colour."""
    return png


@pytest.fixture(scope="session")
def raster_of() -> Callable[[str], str]:
    """The raster digest of the image in a data URL."""

    def digest(url: str) -> str:
        head, _, encoded = url.partition(",")
        assert head == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(encoded, validate=True))) as image:
            assert image.format == "PNG"
            assert image.mode == "RGB"
            assert not image.info
            return raster_digest(np.asarray(image))

    return digest
