"""Ten thousand requests from a grammar of roles, parts and nesting: no image goes on without a verdict."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import json
import random
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

REQUESTS = 10_000
SHARES = 4  # each share is a test of its own
TEXT_KEYS = {
    "text", "content", "input", "instructions", "arguments", "reasoning", "reasoning_content", "refusal", "output",
    "description",
}  # fmt: skip
ROLES = ["system", "developer", "user", "assistant", "tool", "function", "critic", "User", None, 1]
IMAGE_KEYS = ("image_url", "input_image")
MEDIA = ("image", "video", "audio", "embed", "file", "pil", "document")


class Generator:
    """Builds requests: most of them nearly right, so that what is wrong is the one thing that is tried."""

    def __init__(self, seed, images):
        self.random = random.Random(seed)
        self.images = images

    def pick(self, *options):
        return self.random.choice(options)

    def chance(self, probability):
        return self.random.random() < probability

    def url(self):
        good = self.images[self.random.choice(list(self.images))] if self.chance(0.4) else self.images["allow"]
        if self.chance(0.94):
            return good
        return self.pick(
            good.upper(), f" {good}", good.replace(";base64", ""), f"{good}{good}", good[:-3],
            "https://a.example/b.png", "http://127.0.0.1/", "file:///etc/passwd", "",
            good.replace("png", "svg+xml"), f"{good}\n", None, 1, [good], {"url": good},
        )  # fmt: skip

    def words(self):
        return self.pick(
            "what is it?", "", "é😀", "{subject}", "<image>", self.images["block"], "<|im_start|>", "a" * 99
        )

    def part(self, image, text):
        url = self.url()
        right = {
            "image_url": {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
            "input_image": {"type": "input_image", "image_url": url},
        }
        odd = [
            {"type": kind, kind: value}
            for kind in (
                "thinking", "input_text", "output_text", "input_image", "image_url", "image_embeds", "audio_embeds",
                "video_embeds", "prompt_embeds", "image_pil", "audio_url", "input_audio", "refusal", "video_url",
                "file", "text", "input_file", "image",
            )
            for value in (url, {"url": url}, [url], {"data": url, "format": "png"}, None)
        ]  # fmt: skip
        draw = self.random.random()
        if draw < 0.45:
            return right[image]
        if draw < 0.96:
            return {"type": text, "text": self.words()}
        if draw < 0.985:
            return self.random.choice(odd)
        return self.pick(
            url, None, 1, [right[image]], {"type": [image]}, {image: url}, {"type": image.upper(), "u": url}
        )

    def content(self, role, image, text):
        if role in ("system", "developer", "assistant") and self.chance(0.8):
            return self.words()
        if self.chance(0.1):
            return self.pick(self.words(), None, {}, 1, self.url(), [[self.part(image, text)]])
        return [self.part(image, text) for _ in range(self.random.randint(0, 3))]

    def role(self):
        return (
            self.pick("system", "user", "user", "assistant", "tool")
            if self.chance(0.97)
            else self.random.choice(ROLES)
        )

    def chat(self):
        messages = []
        for _ in range(self.random.randint(1, 3)):
            role = self.role()
            message = {"role": role, "content": self.content(role, "image_url", "text")}
            if role == "tool":
                message["tool_call_id"] = "1"
            if role == "assistant" and self.chance(0.3):
                call = {"name": "f", "arguments": json.dumps({"image": self.url()})}
                message["tool_calls"] = [{"id": "1", "type": "function", "function": call}]
            messages.append(message)
        return "/v1/chat/completions", {"model": "m", "messages": messages}

    def responses(self):
        items = []
        for _ in range(self.random.randint(1, 3)):
            role = self.role()
            if role == "tool":
                output = self.content("tool", "input_image", "input_text")
                items.append({"type": "function_call_output", "call_id": "1", "output": output})
            else:
                text = "output_text" if role == "assistant" else "input_text"
                items.append({"role": role, "content": self.content(role, "input_image", text)})
        return "/v1/responses", {"model": "m", "input": items if self.chance(0.95) else self.words()}

    def request(self):
        path, body = self.chat() if self.chance(0.6) else self.responses()
        if self.chance(0.2):
            schema = {"type": "object", "properties": {"image_url": {"type": "string"}}}
            tool = {"name": "f", "parameters": schema}
            body["tools"] = [
                {"type": "function", "function": tool} if "messages" in body else {"type": "function", **tool}
            ]
        if self.chance(0.1):
            body["stream"] = True
        for _ in range(self.random.choice([0, 0, 0, 0, 0, 1, 1, 2])):
            self.plant(body)
        return path, body

    def plant(self, body):
        """Puts something like an image at any place of the tree."""
        spots = list(nodes(body))
        node = self.random.choice(spots)
        planted = self.pick(
            self.part("image_url", "text"), self.part("input_image", "input_text"), self.url(),
            {"role": "user", "content": [self.part("image_url", "text")]},
        )  # fmt: skip
        if isinstance(node, list):
            node.insert(self.random.randint(0, len(node)), planted)
            return
        key = self.pick(
            *(list(node) or ["x"]), "image_url", "image", "images", "image_embeds", "prompt_embeds", "content",
            "metadata", "type", "uuid", "video_url", "input", "messages", "previous_response_id", "file_id",
            "name", "user",
        )  # fmt: skip
        node[key] = {"image": planted} if key == "metadata" else planted


def nodes(value):
    if isinstance(value, (dict, list)):
        yield value
        for one in value.values() if isinstance(value, dict) else value:
            yield from nodes(one)


def finds(value, key=None):
    """Everything in a body that some server may take for an image, by a look at the tree alone; texts are texts."""
    if key == "parameters":  # a schema may name its properties as it likes, but holds no image
        yield from (one for one in strings(value) if one.strip().lower().startswith("data:"))
    elif isinstance(value, dict):
        kind = value.get("type")
        if isinstance(kind, str) and any(word in kind.lower() for word in MEDIA) and kind not in IMAGE_KEYS:
            yield value
        for name, one in value.items():
            if name in IMAGE_KEYS:
                yield one["url"] if isinstance(one, dict) and isinstance(one.get("url"), str) else one
            elif any(word in name.lower() for word in MEDIA):
                yield one
            else:
                yield from finds(one, name)
    elif isinstance(value, list):
        for one in value:
            yield from finds(one, key)
    elif isinstance(value, str) and key not in TEXT_KEYS and value.strip().lower().startswith("data:"):
        yield value


def strings(value):
    if isinstance(value, str):
        yield value
    for one in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        yield from strings(one)


class Known:
    """Judges a few images that it was shown before."""

    def __init__(self, images, verdict_of):
        self.seen = []
        self._known = {}
        for name, url in images.items():
            data = base64.b64decode(url.partition(",")[2])
            raster = decode(data)
            action = {"allow": Action.ALLOW, "caution": Action.CAUTION}.get(name, Action.BLOCK)
            error = "engine_failed" if name == "fail" else None
            verdict = verdict_of(action, error=error, sha256=raster.frames[0].sha256)
            self._known[data] = Screening(verdict=verdict, raster=raster)

    def screen(self, image, *, source=None):
        found = self._known[image]
        self.seen.append(found.verdict)
        return found


class AtOnce:
    """Does the work in the event loop's thread: ten thousand changes of threads would test the machine."""

    def check(self):
        """There is always a place."""

    async def run(self, job):
        return job()


async def ask(application, path, body):
    """One request straight to the application: (status, answer)."""
    data = json.dumps(body).encode()
    messages = [{"type": "http.request", "body": data, "more_body": False}]
    sent = []

    async def receive():
        if messages:
            return messages.pop()
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers,
             "scheme": "http", "server": ("127.0.0.1", 80)}  # fmt: skip
    await application(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


async def run(share, images, verdict_of):
    forwarded = []

    def answer(request):
        forwarded.append(request.content)
        return httpx.Response(200, json={"forwarded": True})

    settings = Settings(upstream="http://upstream.invalid")
    screener = Known(images, verdict_of)
    coverage = Coverage(covered=("privacy",), uncovered=(), bundles={}, policies={}, provider="cpu")
    upstream = Upstream(settings, httpx.MockTransport(answer))
    gateway = open_gateway(settings, screener, coverage, upstream=upstream)
    application = Application()
    application.use(dataclasses.replace(gateway, admission=AtOnce()))
    generator, counts = Generator(share, images), Counter()
    for _ in range(REQUESTS // SHARES):
        forwarded.clear()
        screener.seen.clear()
        path, body = generator.request()
        status, answered = await ask(application, path, body)
        counts[judge(status, answered, forwarded, screener.seen)] += 1
    await gateway.close()
    return counts


def judge(status, answered, forwarded, verdicts):
    """Fails on anything that went on without a verdict; says what became of the request."""
    assert status in (200, 400), (status, answered)
    if not forwarded:
        assert b"forwarded" not in answered
        assert (status == 400) != (b"content_filter" in answered)
        return "refused" if status == 400 else "blocked"
    assert answered == b'{"forwarded":true}'
    (data,) = forwarded
    found = list(finds(json.loads(data)))
    assert all(isinstance(url, str) and url.startswith("data:image/png;base64,") for url in found), data
    assert [digest(url) for url in found] == [verdict.raster_sha256 for verdict in verdicts], data
    assert all(verdict.action is not Action.BLOCK for verdict in verdicts)
    return "with images" if found else "without images"


def digest(url):
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2], validate=True))) as image:
        return raster_digest(np.asarray(image))


@pytest.mark.parametrize("share", range(SHARES))
def test_no_image_goes_on_without_a_verdict(share, pictures, make_verdict):
    images = {name: pictures[name] for name in ("allow", "caution", "block", "fail")}
    counts = asyncio.run(run(share, images, make_verdict))
    assert sum(counts.values()) == REQUESTS // SHARES
    # The grammar must reach every outcome, or it shows nothing.
    outcomes = ("refused", "blocked", "with images", "without images")
    assert all(counts[outcome] > REQUESTS // SHARES // 25 for outcome in outcomes), counts


def test_the_finder_finds():
    hidden = {"a": [{"b": {"image_embeds": 1}}, {"type": "video_url"}], "c": " DATA:image/png", "text": "data:x"}
    assert list(finds(hidden)) == [1, {"type": "video_url"}, " DATA:image/png"]
