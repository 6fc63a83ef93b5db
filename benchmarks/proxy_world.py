"""What the benchmarks of the proxy share: servers in processes of their own, requests, and clients."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from safevlm_runtime.guard.forwarded import data_url_of
from safevlm_sdk.raster import decode, raster_digest

ROOT = Path(__file__).resolve().parent.parent
UPSTREAM = """
import json, sys, uvicorn
ANSWER = json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "An answer."}}]}).encode()
HEAD = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
async def answer(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEAD})
    await send({"type": "http.response.body", "body": ANSWER})
uvicorn.run(answer, port=int(sys.argv[1]), log_level="error", lifespan="off", http="h11", ws="none")
"""
GATE = """
import sys
from safevlm_sdk.command import main
sys.exit(main())
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def halves() -> tuple[list[int], list[int]]:
    """The cores of clients and upstream, and those of the gate."""
    cores = sorted(os.sched_getaffinity(0))
    middle = len(cores) // 2
    return cores[:middle] or cores, cores[middle:]


@contextmanager
def process(code: str, port: int, path: str, *arguments: str, cores: Sequence[int] = ()) -> Iterator[int]:
    """A server in a process of its own, on its own cores or on ours, once it answers; gives its process id."""
    mine = os.sched_getaffinity(0)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "runtime")])}
    os.sched_setaffinity(0, cores or mine)  # what is started here inherits it
    try:
        started = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.DEVNULL
        )
    finally:
        os.sched_setaffinity(0, mine)
    try:
        for _ in range(1200):
            if started.poll() is not None:
                raise RuntimeError(f"the server ended with {started.returncode}")
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5)
                break
            time.sleep(0.1)
        yield started.pid
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def body(size: tuple[int, int] = (640, 427)) -> bytes:
    """A chat request with one JPEG of noise and gradients, so that decoding has something to do."""
    height, width = size[1], size[0]
    grid = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(0).integers(0, 40, (height, width, 3))
    pixels = np.stack([grid[0] % 200, grid[1] % 200, (grid[0] + grid[1]) % 200], axis=-1) + noise
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=90)
    url = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}).encode()


def picture_in(data: bytes) -> bytes:
    """The picture of a request that `body` made."""
    url: str = json.loads(data)["messages"][0]["content"][1]["image_url"]["url"]
    return base64.b64decode(url.partition(",")[2])


def as_forwarded(data: bytes) -> bytes:
    """The request with the judged pixels in the picture's place."""
    request = json.loads(data)
    pixels = decode(picture_in(data)).frames[0].pixels
    request["messages"][0]["content"][1]["image_url"]["url"] = data_url_of(pixels)
    return json.dumps(request).encode()


def own_picture(number: int) -> tuple[bytes, str]:
    """(PNG, digest of its raster) of a picture that no other client has."""
    pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue(), raster_digest(pixels)


def client_of(port: int, connections: int = 1) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120, limits=limits, trust_env=False)


async def ask(client: httpx.AsyncClient, data: bytes) -> tuple[int | str, float]:
    """(status, seconds) of one request; a connection that broke has the name of its error."""
    start = time.perf_counter()
    try:
        answer = await client.post("/v1/chat/completions", content=data, headers={"content-type": "application/json"})
    except httpx.HTTPError as problem:
        return type(problem).__name__, time.perf_counter() - start
    return answer.status_code, time.perf_counter() - start
