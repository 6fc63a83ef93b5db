"""Every kind of part in every shape, at every place of every role's turn: only what was judged goes on.

The other generator of requests draws at random; this one leaves nothing out of a grid. What went on is searched by
its bytes: the images that are sent are JPEG, and the gate forwards PNG alone.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import itertools
import json
import random
import re
from collections import Counter

import httpx
import numpy as np
import pytest
from PIL import Image

from safevlm_runtime.judging.screening import Screening
from safevlm_runtime.proxy.app import Application
from safevlm_runtime.proxy.gateway import Coverage, open_gateway
from safevlm_runtime.proxy.settings import Settings
from safevlm_runtime.proxy.upstream import Upstream
from safevlm_sdk.policy import Action
from safevlm_sdk.raster import decode, raster_digest

PATHS = ("/v1/chat/completions", "/v1/responses")
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
KINDS = (
    "text", "thinking", "input_text", "output_text", "input_image", "image_url", "image_embeds", "audio_embeds",
    "video_embeds", "prompt_embeds", "image_pil", "audio_url", "input_audio", "refusal", "video_url", "image", "file",
    "tool_result",
)  # fmt: skip
SHAPES = {
    "text": lambda kind, url: {"type": kind, kind.rpartition("_")[2]: "a"},
    "url": lambda kind, url: {"type": kind, kind: url},
    "url in an object": lambda kind, url: {"type": kind, kind: {"url": url}},
    "url in a list": lambda kind, url: {"type": kind, kind: [{"url": url}]},
    "bare data": lambda kind, url: {"type": kind, kind: {"data": url.partition(",")[2], "format": "jpeg"}},
    "as input_image": lambda kind, url: {"type": kind, "image_url": url, "detail": "high"},
    "as image_url": lambda kind, url: {"type": kind, "image_url": {"url": url, "detail": "high"}},
    "no type": lambda kind, url: {kind: {"url": url}},
}
PLACES = {
    "alone": lambda part, good, text: [part],
    "between": lambda part, good, text: [text, part, good],
    "no list": lambda part, good, text: part,
    "two lists": lambda part, good, text: [[part]],
    "inside a text": lambda part, good, text: [{**text, "content": [part]}],
    "inside an image": lambda part, good, text: [{**good, "content": [part]}],
}
TEXT_KEYS = {"text", "refusal"}
JPEG = "/9j/"
A_PATH = re.compile(r"(messages|input)\[0\](\.[a-z_]+|\[\d+\])*")


def pictures(make_verdict):
    """Encoded JPEG to what the gate says of it; every raster is another."""
    found = {}
    for number in range(33):
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16), (7 * number, 255 - 7 * number, 90)).save(buffer, "JPEG")
        raster = decode(buffer.getvalue())
        action = Action.BLOCK if number % 4 == 3 else Action.CAUTION if number % 3 else Action.ALLOW
        verdict = make_verdict(action, sha256=raster.frames[0].sha256)
        found[buffer.getvalue()] = Screening(verdict=verdict, raster=raster)
    return found


class Known:
    """Judges the pictures that it knows, and notes what it was asked."""

    def __init__(self, known):
        self.known, self.judged = known, []

    def screen(self, image, *, source=None):
        self.judged.append(self.known[image].verdict)
        return self.known[image]


class AtOnce:
    """Works in the event loop's thread."""

    def check(self):
        """There is always a place."""

    async def run(self, job):
        return job()


class Asked:
    """An application without a server, in front of an upstream that keeps what it gets."""

    def __init__(self, screener):
        self.forwarded, self.screener = [], screener
        settings = Settings(upstream="http://upstream.invalid")
        coverage = Coverage(covered=("privacy",), uncovered=(), bundles={}, policies={}, provider="cpu")
        self.gateway = open_gateway(
            settings, screener, coverage, upstream=Upstream(settings, httpx.MockTransport(self._answer))
        )
        self._application = Application()
        self._application.use(dataclasses.replace(self.gateway, admission=AtOnce()))

    def _answer(self, request):
        self.forwarded.append(request.content)
        return httpx.Response(200, content=b"an answer")

    async def __call__(self, path, data):
        """(status, answer) of one request."""
        self.forwarded.clear()
        self.screener.judged.clear()
        messages = [{"type": "http.request", "body": data, "more_body": False}]
        sent = []

        async def receive():
            if not messages:
                await asyncio.Event().wait()
            return messages.pop()

        async def send(message):
            sent.append(message)

        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers,
                 "scheme": "http", "server": ("127.0.0.1", 80)}  # fmt: skip
        await self._application(scope, receive, send)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def request(path, role, part, place, url):
    """One turn of a role, whose content is built around a part."""
    if path == PATHS[0]:
        good, text = {"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "what is it?"}
        turn = {"role": role, "content": PLACES[place](part, good, text)}
        return {"model": "m", "messages": [turn | ({"tool_call_id": "1"} if role == "tool" else {})]}
    good, text = {"type": "input_image", "image_url": url}, {"type": "input_text", "text": "what is it?"}
    content = PLACES[place](part, good, text)
    turn = {"role": role, "content": content}
    if role == "tool":
        turn = {"type": "function_call_output", "call_id": "1", "output": content}
    return {"model": "m", "input": [turn]}


def found_in(value, key=None):
    """All that could be an image, by its look: an address, encoded bytes, or an object of a kind that is no text."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from found_in(one, name)
    elif isinstance(value, list):
        for one in value:
            yield from found_in(one, key)
    elif isinstance(value, str) and key not in TEXT_KEYS and (":" in value or len(value) > 64):
        yield value


def without_texts(value):
    """A text is a text, whatever it reads."""
    if isinstance(value, dict):
        return {name: "" if name in TEXT_KEYS else without_texts(one) for name, one in value.items()}
    return [without_texts(one) for one in value] if isinstance(value, list) else value


def check_forwarded(data, judged):
    """Fails on bytes that went on and are not judged pixels, or not the one way to write them."""
    body = json.loads(data)
    assert JPEG not in json.dumps(without_texts(body)), data
    assert json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() == data
    found = list(found_in(body))
    assert all(url.startswith("data:image/png;base64,") for url in found), data
    assert [digest(url) for url in found] == [verdict.raster_sha256 for verdict in judged], data
    assert all(verdict.action is not Action.BLOCK for verdict in judged)
    return len(found)


def digest(url):
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2], validate=True))) as image:
        assert not image.info
        return raster_digest(np.asarray(image))


async def run(path, make_verdict):
    """What became of each request of the grid."""
    known = pictures(make_verdict)
    urls = [f"data:image/jpeg;base64,{base64.b64encode(data).decode()}" for data in known]
    asked, outcomes, draw = Asked(Known(known)), {}, random.Random(5)
    for cell in itertools.product(ROLES, KINDS, SHAPES, PLACES):
        role, kind, shape, place = cell
        body = request(path, role, SHAPES[shape](kind, draw.choice(urls)), place, draw.choice(urls))
        status, answer = await asked(path, json.dumps(body).encode())
        if asked.forwarded:
            assert (status, answer) == (200, b"an answer")
            (data,) = asked.forwarded
            outcomes[cell] = f"{check_forwarded(data, asked.screener.judged)} images"
        elif status == 200:
            assert b"content_filter" in answer
            assert any(verdict.action is Action.BLOCK for verdict in asked.screener.judged)
            outcomes[cell] = "blocked"
        else:
            error = json.loads(answer)["error"]
            assert status == 400
            assert A_PATH.fullmatch(error["param"]), error
            assert asked.screener.judged == []
            outcomes[cell] = "refused"
    await asked.gateway.close()
    return outcomes


@pytest.mark.parametrize("path", PATHS)
def test_no_cell_of_the_grid_carries_an_image_past_the_gate(path, make_verdict):
    outcomes = asyncio.run(run(path, make_verdict))
    assert len(outcomes) == 5184
    kind = "image_url" if path == PATHS[0] else "input_image"
    shapes = {"as image_url", "url in an object"} if path == PATHS[0] else {"as input_image"}
    with_images = {cell for cell, outcome in outcomes.items() if outcome in ("1 images", "2 images", "blocked")}
    texts = {"text", "refusal"} if path == PATHS[0] else {"input_text", "output_text", "refusal"}
    for role, kind_of_part, shape_of_part, place in with_images:
        assert role in ("user", "tool")
        assert place in ("alone", "between")
        assert (kind_of_part == kind and shape_of_part in shapes) or kind_of_part in texts
    assert {(role, kind, shape, "alone") for role in ("user", "tool") for shape in shapes} <= with_images
    assert set(Counter(outcomes.values())) == {"0 images", "1 images", "2 images", "blocked", "refused"}


def test_the_search_finds_what_a_gate_would_let_through():
    good = b'{"a":[{"image_url":"data:image/png;base64,AAAA"}]}'
    for data in (good.replace(b"png", b"jpeg"), good.replace(b"[", b"[ "), good.replace(b"data:", b"https://a.b/")):
        with pytest.raises(AssertionError):
            check_forwarded(data, [])
    hidden = {"uuid": "A" * 65, "text": "data:x", "deep": [{"file_id": "http://a"}]}
    assert list(found_in(hidden)) == ["A" * 65, "http://a"]
