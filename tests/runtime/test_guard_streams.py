"""When a guard's observers are told, and its streams, its asynchronous twins and many threads."""

from __future__ import annotations

import asyncio

import pytest

from safevlm_sdk.errors import (
    ObserverFailed,
)

RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)
REFUSAL = "I cannot help with this image."


def test_observers_are_told_before_the_engine_is_asked(runtime, careful, spy, picture, recorder):
    recorder = recorder(spy.happened)
    careful.guard(spy, observers=[recorder]).generate("x", [picture(BLUE), picture(GREEN)], source="trusted")
    careful.guard(spy, observers=[recorder]).generate("x", [picture(BLUE)])
    runtime.guard(spy, observers=[recorder]).generate("x", [picture(RED)])
    assert spy.happened == ["verdict", "verdict", "asked", "verdict", "asked", "verdict"]
    events = [event for _, event in recorder.events]
    assert [(one.entry, one.source, one.prompt_mixed, one.blocked) for one in events] == [
        ("guard", "trusted", False, False), ("guard", "trusted", False, False), ("guard", None, True, False),
        ("guard", None, False, True),
    ]  # fmt: skip
    assert len({one.request_id for one in events}) == 3


def test_where_an_observer_fails_nothing_goes_on(runtime, spy, picture, recorder):
    with pytest.raises(ObserverFailed):
        runtime.guard(spy, observers=[recorder(fails=True)]).generate("x", [picture(GREEN)])
    assert spy.bodies == []


def test_no_piece_is_asked_for_before_the_last_verdict(runtime, spy, picture, recorder):
    guard = runtime.guard(spy, observers=[recorder(spy.happened)])
    images = [picture(GREEN)] * 3
    with guard.stream("x", images) as stream:
        assert spy.happened == ["verdict"] * 3
        assert (len(stream.verdicts), stream.refused) == (3, False)
        assert list(stream) == ["An ", "answer."]
    assert spy.happened == ["verdict"] * 3 + ["asked", "piece", "piece"]
    refused = guard.stream("x", [*images, picture(RED)])
    assert (list(refused), refused.refused) == ([REFUSAL], True)
    assert len(spy.bodies) == 1


def test_a_stream_that_is_left_ends_the_generation(runtime, spy, picture):
    with runtime.guard(spy).stream("x", [picture(GREEN)]) as stream:
        assert next(stream) == "An "
    assert list(stream) == []
    assert spy.happened == ["asked", "piece"]


def test_the_asynchronous_twins_do_the_same(runtime, spy, picture, recorder):
    guard = runtime.guard(spy, observers=[recorder(spy.happened)])

    async def pieces(images):
        async with await guard.astream("x", images) as stream:
            return [piece async for piece in stream], stream.refused, len(stream.verdicts)

    async def all_of_them():
        assert (await guard.agenerate("x", [picture(GREEN)])).text == "An answer."
        assert await pieces([picture(GREEN)]) == (["An ", "answer."], False, 1)
        assert len(spy.bodies) == 2
        assert (await guard.agenerate("x", [picture(RED)])).text == REFUSAL
        assert await pieces([picture(RED)]) == ([REFUSAL], True, 1)
        replies = await asyncio.gather(*(guard.agenerate(str(n), [picture((RED, GREEN)[n % 2])]) for n in range(8)))
        return [reply.refused for reply in replies]

    assert asyncio.run(all_of_them()) == [True, False] * 4
    assert len(spy.bodies) == 6
    assert spy.happened[:5] == ["verdict", "asked", "verdict", "asked", "piece"]
