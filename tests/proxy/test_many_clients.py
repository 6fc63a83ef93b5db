"""Sixty-four clients at one time: every one gets its own verdict and its own answer."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import pytest
from PIL import Image

from safevlm_runtime.proxy.settings import ProxyLimits
from safevlm_sdk.raster import decode, raster_digest

CLIENTS, ROUNDS = 64, 2


class Echo(BaseHTTPRequestHandler):
    """Answers with the digest of the image that it was sent, and the text beside it."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        """Silent."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text, image = body["messages"][0]["content"]
        with Image.open(io.BytesIO(base64.b64decode(image["image_url"]["url"].partition(",")[2]))) as picture:
            told = f"{text['text']} {raster_digest(np.asarray(picture))}"
        data = json.dumps({"choices": [{"message": {"content": told}, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 128


@pytest.fixture
def echo():
    with Server(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(20)


def picture(number):
    """(bytes, digest, action) of an image that no other client sends; by its colour it is allowed or blocked."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[..., 0 if number % 3 == 0 else 1] = 250
    pixels[..., 2] = number % 100
    pixels[1, 1] = number // 100, 0, 0
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = buffer.getvalue()
    return data, decode(data).frames[0].sha256, "block" if number % 3 == 0 else "allow"


async def check(client, number):
    data, sha256, action = picture(number)
    answer = await client.post("/v1/check", content=data, headers={"content-type": "image/png"})
    verdict = answer.json()
    assert (answer.status_code, verdict["raster_sha256"], verdict["action"]) == (200, sha256, action)


async def chat(client, number):
    data, sha256, action = picture(number)
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    content = [{"type": "text", "text": f"question {number}"}, {"type": "image_url", "image_url": {"url": url}}]
    body = {"model": "m", "messages": [{"role": "user", "content": content}]}
    answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    (choice,) = answer.json()["choices"]
    assert answer.headers["x-safevlm-action"] == action
    if action == "block":
        assert choice["finish_reason"] == "content_filter"
    else:
        assert choice["message"]["content"] == f"question {number} {sha256}"
    return answer.headers["x-safevlm-verdict"]


async def one_client(base, number, begin):
    """A few requests in turn; all clients begin together."""
    async with httpx.AsyncClient(base_url=base, timeout=120) as client:
        await begin.wait()
        seen = []
        for round_ in range(ROUNDS):
            await check(client, number + 2 * round_ * CLIENTS)
            seen.append(await chat(client, number + (2 * round_ + 1) * CLIENTS))
        return seen


async def all_clients(base):
    begin = asyncio.Event()
    clients = [asyncio.ensure_future(one_client(base, number, begin)) for number in range(CLIENTS)]
    await asyncio.sleep(0)
    begin.set()
    return await asyncio.gather(*clients)


def test_nobody_gets_anothers_verdict_or_answer(make_proxy, echo):
    proxy = make_proxy(upstream=echo, limits=ProxyLimits(burst_seconds=60.0))
    found = asyncio.run(all_clients(f"http://127.0.0.1:{proxy.port}"))
    ids = [one for of_client in found for one in of_client]
    assert len(set(ids)) == CLIENTS * ROUNDS
    assert len(proxy.screener.verdicts) == 2 * CLIENTS * ROUNDS
    for _ in range(4000):  # an answer is there a moment before its request is put away
        if not (proxy.gateway.admission.open or proxy.gateway.buffered.held):
            return
        time.sleep(0.005)
    raise AssertionError("a request was not put away")
