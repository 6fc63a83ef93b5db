"""What the tests of the guard share: an engine that keeps every byte it is given, and runtimes before it."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image as PilImage

from safevlm_runtime import Runtime
from safevlm_runtime.guard.engines.openai_form import message_form
from safevlm_sdk.chat import Reply, Usage

CAUTIOUS = b"""schema = 1
name = "careful"
uncovered = "allow"
on_error = "caution"
[actions.privacy]
low = "caution"
medium = "caution"
high = "caution"
[actions.illegal_risk]
low = "caution"
medium = "caution"
high = "caution"
[sources.trusted.actions.privacy]
low = "allow"
medium = "allow"
high = "allow"
"""


class Spy:
    """An engine that notes when it is asked, and with which bytes."""

    def __init__(self):
        self.bodies, self.happened = [], []

    def note(self, request):
        self.happened.append("asked")
        self.bodies.append(json.dumps([message_form(message) for message in request.messages]))

    def generate(self, request):
        self.note(request)
        return Reply(text="An answer.", finish_reason="stop", usage=Usage(prompt_tokens=3, completion_tokens=2))

    def stream(self, request):
        self.note(request)
        for piece in ("An ", "answer."):
            self.happened.append("piece")
            yield piece

    async def agenerate(self, request):
        return self.generate(request)

    async def astream(self, request):
        for piece in self.stream(request):
            yield piece

    def close(self):
        pass

    async def aclose(self):
        pass


class Recorder:
    def __init__(self, happened=None, fails=False):
        self.events, self.fails, self.happened = [], fails, happened if happened is not None else []

    def judged(self, verdict, event):
        self.happened.append("verdict")
        self.events.append((verdict.action, event))
        if self.fails:
            raise OSError("the disk is full")


def saved(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, PilImage.Image) else PilImage.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def spy():
    """An engine that notes what happens."""
    return Spy()


@pytest.fixture
def runtime(bundle):
    """Of the test bundle."""
    with Runtime.load(bundle) as loaded:
        yield loaded


@pytest.fixture
def careful(maker, tmp_path):
    """A runtime that blocks nothing, and a source that it trusts."""
    maker.policy = CAUTIOUS
    with Runtime.load(maker.write(tmp_path / "careful")) as loaded:
        yield loaded


@pytest.fixture
def picture(paint):
    """Makes a PNG of one colour."""
    return lambda colour: saved(paint(*colour))


@pytest.fixture
def new_spy():
    """Makes further engines."""
    return Spy


@pytest.fixture
def recorder():
    """Makes observers that note what they are told of."""
    return Recorder


@pytest.fixture
def careful_policy():
    """Of the runtime `careful`."""
    return CAUTIOUS
