"""Engines of one's own: what a guard asks of them before it asks them anything, and of what they give back."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from safevlm_sdk.chat import Reply
from safevlm_sdk.errors import ChatEngineError, OptionError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gate.md"
GREEN, RED = (0, 250, 0), (250, 0, 0)


class Plain:
    """Gives what it was made with, whatever it is asked."""

    def __init__(self, given):
        self.given = given

    def generate(self, request):
        return self.given

    stream = agenerate = astream = generate


def asked(guard, method):
    """What a guard makes of its engine's method."""
    found = getattr(guard, method)("x")
    return asyncio.run(found) if method.startswith("a") else found


@pytest.mark.parametrize("missing", ["generate", "stream", "agenerate", "astream"])
def test_an_engine_without_a_method_is_refused_at_once(runtime, missing):
    methods = {name: lambda self, request: None for name in ("generate", "stream", "agenerate", "astream")}
    del methods[missing]
    with pytest.raises(OptionError, match=rf"a Half without {missing}; it needs the methods"):
        runtime.guard(type("Half", (), methods)())


def test_something_else_than_an_engine_is_refused(runtime, new_spy):
    with pytest.raises(OptionError, match="a str without generate, stream, agenerate, astream"):
        runtime.guard("http://127.0.0.1:8000/v1")
    with pytest.raises(OptionError, match="the engine is the class Spy; give an object of it"):
        runtime.guard(new_spy)


@pytest.mark.parametrize("given", ["An answer.", None, {"text": "An answer."}])
def test_what_is_no_reply_is_named_with_what_to_return(runtime, given):
    kind = type(given).__name__
    with pytest.raises(ChatEngineError, match=rf"returned a {kind}; it must return safevlm_sdk\.chat\.Reply\("):
        asked(runtime.guard(Plain(given)), "generate")

    class Later(Plain):
        async def agenerate(self, request):
            return self.given

    with pytest.raises(ChatEngineError, match=rf"returned a {kind}; it must return"):
        asked(runtime.guard(Later(given)), "agenerate")


def test_a_reply_without_a_text_is_named(runtime):
    with pytest.raises(ChatEngineError, match="text of the engine's Reply is a bytes"):
        asked(runtime.guard(Plain(Reply(text=b"An answer.", finish_reason="stop"))), "generate")


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        (
            "agenerate",
            Reply(text="x", finish_reason="stop"),
            "a Reply, which cannot be awaited",
        ),
        ("stream", ["An ", "answer."], "stream returned a list; write it with `def` and `yield`"),
        ("astream", iter(["An "]), "astream returned a list_iterator; write it with `async def` and `yield`"),
    ],
)
def test_what_cannot_be_awaited_or_iterated_is_named(runtime, method, given, message):
    with pytest.raises(ChatEngineError, match=message):
        asked(runtime.guard(Plain(given)), method)


def test_a_coroutine_in_the_place_of_an_asynchronous_iterator_is_named(runtime):
    class Wrong(Plain):
        async def astream(self, request):
            return "An answer."

    with pytest.raises(ChatEngineError, match="astream returned a coroutine"):
        asked(runtime.guard(Wrong(None)), "astream")


def test_the_engine_of_the_page_answers(runtime, picture):
    (block,) = re.findall(r"^```python\n([^`]*?class MyEngine.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    names = {"runtime": runtime}
    exec(compile(block, "gate.md", "exec"), names)
    guard = names["own"]

    async def later():
        reply = await guard.agenerate("What is it?", [picture(GREEN)])
        async with await guard.astream("What is it?", [picture(GREEN)]) as stream:
            return reply, [piece async for piece in stream]

    said = guard.generate("What is it?", [picture(GREEN)])
    assert said.text == "I was shown 1."
    reply, pieces = asyncio.run(later())
    with guard.stream("What is it?", [picture(GREEN)]) as stream:
        assert "".join(stream) == said.text == reply.text == "".join(pieces)
    assert guard.generate("What is it?", [picture(RED)]).refused
