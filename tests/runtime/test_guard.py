"""A guard in front of an engine that keeps every byte it is given."""

from __future__ import annotations

import base64
import io
import itertools
import json
import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from PIL import Image as PilImage

from safevlm_runtime import Runtime
from safevlm_runtime.judging.gate import Gate
from safevlm_sdk import Action
from safevlm_sdk.chat import Image, Message, Request, Text, Usage
from safevlm_sdk.errors import (
    ChatEngineUnreachable,
    ConversationError,
    ConversationTooManyImages,
    EngineError,
    ImageNotJudged,
)
from safevlm_sdk.raster import decode, raster_digest

RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)
REFUSAL = "I cannot help with this image."


def saved(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, PilImage.Image) else PilImage.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def part(data):
    return {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(data).decode()}}


def forwarded(body):
    """The files of a request's body."""
    contents = [message["content"] for message in json.loads(body) if isinstance(message["content"], list)]
    urls = [one["image_url"]["url"] for one in itertools.chain(*contents) if one["type"] == "image_url"]
    return [base64.b64decode(url.removeprefix("data:image/png;base64,")) for url in urls]


def texts(body):
    found = []
    for message in json.loads(body):
        content = message["content"]
        found += [content] if isinstance(content, str) else [one.get("text", "[image]") for one in content]
    return found


def pictures():
    """What is well-formed and still read differently by different programs."""
    rng = np.random.default_rng(0)
    photo = PilImage.fromarray(rng.integers(90, 110, (100, 140, 3), dtype=np.uint8))
    green = PilImage.new("RGB", (90, 60), GREEN)
    hidden = PilImage.new("RGBA", (48, 48), (0, 250, 0, 0))
    hidden.paste((0, 240, 0, 255), (8, 8, 40, 40))
    exif = PilImage.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a canary in the description"
    deep = PilImage.fromarray((np.arange(64 * 64, dtype=np.uint16) * 13).reshape(64, 64))
    return {
        "large": saved(photo),
        "progressive": saved(photo, "JPEG", progressive=True, quality=60),
        "turned": saved(photo, "JPEG", exif=exif),
        "cmyk": saved(photo.convert("CMYK"), "JPEG"),
        "grey": saved(photo.convert("L")),
        "palette": saved(green.quantize(8), "GIF"),
        "transparent": saved(hidden),
        "lossy": saved(photo, "WEBP"),
        "16 bit": saved(deep),
        "polyglot": saved(green) + b"PK\x03\x04 a canary behind the end",
        "tall": saved(green.resize((20, 150))),
    }


def test_a_harmless_image_is_answered(runtime, spy, picture):
    reply = runtime.guard(spy).generate("What is this?", [picture(GREEN)], temperature=0)
    assert (reply.text, reply.finish_reason, reply.refused) == ("An answer.", "stop", False)
    assert reply.usage == Usage(prompt_tokens=3, completion_tokens=2)
    assert [verdict.action for verdict in reply.verdicts] == [Action.ALLOW]
    assert texts(spy.bodies[0]) == ["[image]", "What is this?"]


def test_text_alone_goes_through(runtime, spy):
    reply = runtime.guard(spy).generate("Hello.")
    assert (reply.text, reply.verdicts, texts(spy.bodies[0])) == ("An answer.", (), ["Hello."])


@pytest.mark.parametrize("name", pictures())
def test_what_goes_on_is_the_raster_that_was_judged_and_nothing_else(careful, spy, name):
    data = pictures()[name]
    reply = careful.guard(spy).generate("What?", [data])
    (verdict,), (png,) = reply.verdicts, forwarded(spy.bodies[0])
    with PilImage.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode, getattr(image, "n_frames", 1), image.info) == ("PNG", "RGB", 1, {})
        assert raster_digest(np.asarray(image)) == verdict.raster_sha256
    assert decode(png).frames[0].sha256 == verdict.raster_sha256
    assert data not in png
    assert b"canary" not in png
    again = careful.guard(spy).generate("What?", [data])
    assert again.verdicts[0].raster_sha256 == verdict.raster_sha256
    assert spy.bodies[0] == spy.bodies[1]


BAD = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "text": lambda data: b"<svg onload='x'/>",
    "frames": lambda data: saved(PilImage.new("RGB", (32, 32)), "GIF", save_all=True,
                                 append_images=[PilImage.new("RGB", (32, 32), RED)]),
    "side": lambda data: saved(PilImage.new("RGB", (2, 2))),
    "nothing": lambda data: None,
    "missing": lambda data: "there/is/no/such.png",
}  # fmt: skip


@pytest.mark.parametrize("how", BAD)
def test_an_image_that_cannot_be_judged_reaches_no_engine(runtime, careful, spy, picture, how):
    bad = BAD[how](picture(GREEN))
    for gate in (runtime, careful):  # also where the policy says caution: there is nothing that could go on
        reply = gate.guard(spy).generate("What?", [picture(GREEN), bad])
        assert (reply.refused, reply.text, reply.finish_reason) == (True, REFUSAL, "content_filter")
        assert [verdict.error is None for verdict in reply.verdicts] == [True, False]
        assert [verdict.action for verdict in reply.verdicts] == [Action.ALLOW, Action.BLOCK]
    assert spy.bodies == []


def test_a_blocked_image_reaches_no_engine_wherever_it_stands(runtime, spy, picture):
    harmless, risky, text = part(picture(GREEN)), part(picture(RED)), {"type": "text", "text": "x"}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}

    def talk(at):
        one = lambda number: risky if number == at else harmless  # noqa: E731
        return [
            {"role": "system", "content": [text, one(0)]},
            {"role": "user", "content": [one(1), text, one(2)]},
            {"role": "assistant", "content": [one(3)], "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": [text, one(4)]},
            Message(role="user", parts=(Text(text="y"), Image(source=picture(RED if at == 5 else GREEN)))),
        ]

    for at in range(6):
        reply = runtime.guard(spy).generate(messages=talk(at))
        assert reply.refused
        assert [verdict.action is Action.BLOCK for verdict in reply.verdicts] == [number == at for number in range(6)]
    assert spy.bodies == []
    assert not runtime.guard(spy).generate(messages=talk(None)).refused
    assert len(forwarded(spy.bodies[0])) == 6


def test_caution_puts_the_safety_prompt_behind_the_text_of_the_images_turn(careful, spy, picture):
    careful.guard(spy).generate(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [part(picture(BLUE)), {"type": "text", "text": "First?"}]},
            {"role": "assistant", "content": "One."},
            {"role": "user", "content": "Second?"},
        ]
    )
    system, image, first, answer, second = texts(spy.bodies[0])
    assert (system, image, answer, second) == ("Be brief.", "[image]", "One.", "Second?")
    assert first.startswith("First?\n\nSafety note: ")
    assert "personal data" in first


def test_the_safety_prompt_stays_out_of_the_other_turns(careful, spy, picture):
    turns = [[GREEN, GREEN], [GREEN, BLUE], [GREEN]]
    careful.guard(spy).generate(
        messages=[
            {
                "role": "user",
                "content": [*(part(picture(one)) for one in turn), {"type": "text", "text": str(number)}],
            }
            for number, turn in enumerate(turns)
        ]
    )
    said = [text for text in texts(spy.bodies[0]) if text != "[image]"]
    assert [text.partition("\n\n")[0] for text in said] == ["0", "1", "2"]
    assert [len(text) > 1 for text in said] == [False, True, False]


def test_the_worst_image_of_a_turn_speaks_and_a_turn_without_text_gets_one(careful, spy, picture):
    reply = careful.guard(spy).generate("Both?", [picture(BLUE), picture(RED), picture(GREEN)])
    *images, said = texts(spy.bodies[0])
    assert images == ["[image]"] * 3
    assert said == f"Both?\n\n{reply.verdicts[1].safety_prompt}"  # red is HIGH, blue is MEDIUM
    careful.guard(spy).generate(
        messages=[
            {"role": "tool", "tool_call_id": "1", "content": [part(picture(BLUE))]},
            {"role": "user", "content": "Go on."},
        ]
    )
    assert texts(spy.bodies[1]) == ["[image]", reply.verdicts[0].safety_prompt, "Go on."]


def test_a_failing_gate_is_a_block_unless_the_policy_says_caution(runtime, careful, spy, picture, monkeypatch):
    def fail(*_):
        raise EngineError("the graph failed")

    monkeypatch.setattr(Gate, "judge", fail)
    assert runtime.guard(spy).generate("x", [picture(GREEN)]).refused
    assert spy.bodies == []
    reply = careful.guard(spy).generate("x", [picture(GREEN)])
    assert (reply.refused, reply.verdicts[0].error) == (False, "engine_failed")
    assert texts(spy.bodies[0])[1] == f"x\n\n{reply.verdicts[0].safety_prompt}" != "x\n\n"


def test_a_closed_runtime_lets_nothing_through(bundle, spy, picture):
    runtime = Runtime.load(bundle)
    guard = runtime.guard(spy)
    runtime.close()
    assert guard.generate("x", [picture(GREEN)]).refused
    assert spy.bodies == []


def test_a_policy_that_observes_lets_through_what_it_would_block(runtime, spy, picture, tmp_path, careful_policy):
    policy = tmp_path / "policy.toml"
    policy.write_bytes(
        careful_policy.replace(b"schema = 1", b'schema = 1\nmode = "observe"').replace(b'"caution"', b'"block"', 1)
    )
    runtime.reload_policy(policy)
    reply = runtime.guard(spy).generate("x", [picture(RED)])
    assert (reply.refused, reply.verdicts[0].action, reply.verdicts[0].observed) == (
        False,
        Action.ALLOW,
        Action.CAUTION,
    )
    assert texts(spy.bodies[0]) == ["[image]", "x"]
    assert runtime.guard(spy).generate("x", [b"no image"]).refused  # there is nothing that could go on


def test_the_source_of_the_images_reaches_the_policy(careful, spy, picture):
    guard = careful.guard(spy)
    assert guard.generate("x", [picture(BLUE)]).verdicts[0].action is Action.CAUTION
    assert guard.generate("x", [picture(BLUE)], source="trusted").verdicts[0].action is Action.ALLOW


def test_callbacks_are_told_and_cannot_open_the_gate(runtime, spy, picture, caplog):
    blocked, failed = [], []
    guard = runtime.guard(spy, on_block=blocked.append, on_error=failed.append)
    guard.generate("x", [picture(RED), b"no image", picture(GREEN)])
    assert [verdict.category for verdict in blocked] == ["illegal_risk"]
    assert [verdict.error for verdict in failed] == ["image_format"]

    def fail(verdict):
        raise RuntimeError("a canary of the application")

    caplog.set_level(logging.DEBUG)
    for images in ([picture(RED)], [b"no image"]):
        assert runtime.guard(spy, on_block=fail, on_error=fail).generate("x", images).text == REFUSAL
    assert spy.bodies == []
    assert "RuntimeError" in caplog.text
    assert "canary" not in caplog.text


def test_thirty_two_threads_get_each_their_own(runtime, spy, picture):
    guard, data = runtime.guard(spy), [picture(RED), picture(GREEN), picture(BLUE)]

    def ask(number):
        return guard.generate(f"question {number}", [data[number % 3], data[(number + 1) % 3]][: 1 + number % 2])

    with ThreadPoolExecutor(32) as pool:
        replies = list(pool.map(ask, range(96)))
    harmless = [number for number in range(96) if number % 3 == 1 and number % 2 == 0]
    assert [number for number, reply in enumerate(replies) if not reply.refused] == harmless
    assert all(len(reply.verdicts) == 1 + number % 2 for number, reply in enumerate(replies))
    assert sorted(texts(body)[1] for body in spy.bodies) == sorted(f"question {number}" for number in harmless)
    for body in spy.bodies:
        assert {tuple(decode(png).frames[0].pixels[0, 0]) for png in forwarded(body)} == {GREEN}


ROLES = some.sampled_from(["system", "user", "assistant", "tool"])
PARTS = some.lists(some.sampled_from([None, RED, GREEN, BLUE]), max_size=3)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=some.lists(some.tuples(ROLES, PARTS), min_size=1, max_size=4))
def test_no_image_of_any_conversation_goes_on_without_its_verdict(runtime, paint, turns, new_spy):
    spy, messages, colours = new_spy(), [], []
    for role, parts in turns:
        sizes = itertools.count(32 + len(colours))  # no two images of a conversation are alike
        content = [part(saved(paint(*one, next(sizes)))) if one else {"type": "text", "text": "x"} for one in parts]
        messages.append({"role": role, "content": content} | ({"tool_call_id": "1"} if role == "tool" else {}))
        colours += [one for one in parts if one]
    if len(colours) > 8:
        with pytest.raises(ConversationTooManyImages):
            runtime.guard(spy).generate(messages=messages)
        return
    reply = runtime.guard(spy).generate(messages=messages)
    assert [verdict.allowed for verdict in reply.verdicts] == [one == GREEN for one in colours]
    assert reply.refused == any(one != GREEN for one in colours) == (not spy.bodies)
    if spy.bodies:
        assert [decode(png).frames[0].sha256 for png in forwarded(spy.bodies[0])] == [
            verdict.raster_sha256 for verdict in reply.verdicts
        ]


def test_what_is_not_known_reaches_neither_gate_nor_engine(runtime, spy, picture, recorder):
    guard = runtime.guard(spy, observers=[recorder(spy.happened)], max_images=2)
    strange = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,QUJD"}}
    for messages in (
        [{"role": "user", "content": [part(picture(GREEN)), strange]}],
        [{"role": "critic", "content": "x"}],
    ):
        with pytest.raises(ConversationError):
            guard.generate(messages=messages)
    with pytest.raises(ConversationTooManyImages):
        guard.stream("x", [picture(GREEN)] * 3)
    assert spy.happened == []


def test_an_engine_cannot_be_given_what_was_not_judged(picture, new_spy):
    message = Message(role="user", parts=(Image(source=picture(GREEN)),))
    with pytest.raises(ImageNotJudged, match=r"runtime\.guard"):
        new_spy().generate(Request(messages=(message,)))


def test_an_engine_that_fails_says_so(runtime, spy, picture):
    def fail(request):
        raise ChatEngineUnreachable("http://127.0.0.1:1 cannot be reached")

    spy.generate = fail
    with pytest.raises(ChatEngineUnreachable):
        runtime.guard(spy).generate("x", [picture(GREEN)])
