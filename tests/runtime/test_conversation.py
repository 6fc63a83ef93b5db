"""What a guard reads: every known shape, and nothing else."""

from __future__ import annotations

import base64

import pytest

from safevlm_runtime.guard.conversation import read_conversation
from safevlm_sdk.chat import Image, Message, Text, ToolCall
from safevlm_sdk.errors import ConversationError, ConversationRemoteImage, ConversationTooManyImages
from safevlm_sdk.raster import from_array

URL = "data:image/png;base64," + base64.b64encode(b"not a picture, which is the gate's to say").decode()
TEXT = {"type": "text", "text": "What is this?"}
IMAGE = {"type": "image_url", "image_url": {"url": URL}}
CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def read(*messages, **options):
    return read_conversation(None, (), messages, **options)


def user(*parts):
    return {"role": "user", "content": list(parts)}


def shape(message):
    return message.role, "".join("t" if isinstance(part, Text) else "i" for part in message.parts)


def test_a_prompt_with_images_is_one_turn_with_the_images_first():
    (message,) = read_conversation("Which?", ["a.png", b"b"], None)
    assert shape(message) == ("user", "iit")
    assert [image.source for image in message.images] == ["a.png", b"b"]


def test_images_are_found_in_every_turn_and_place():
    found = read(
        {"role": "system", "content": [TEXT, IMAGE]},
        user(IMAGE, TEXT, IMAGE),
        {"role": "assistant", "content": "A thing.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "content": [IMAGE]},
        {"role": "assistant", "content": [IMAGE]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        Message(role="user", parts=(Image(source="c.png"), Text(text="And this?"))),
    )
    shapes = [shape(message) for message in found]
    assert [parts for _, parts in shapes] == ["ti", "iti", "t", "i", "i", "", "it"]
    assert found[2].tool_calls == (ToolCall(id="1", name="look", arguments="{}"),)
    assert found[3].tool_call_id == "1"
    assert found[1].images[0].source == b"not a picture, which is the gate's to say"


def test_what_was_read_is_a_copy():
    part, message = dict(TEXT), {"role": "user"}
    message["content"] = [part]
    (found,) = read(message)
    part["text"], message["role"] = "changed", "system"
    assert (found.role, found.parts) == ("user", (Text(text="What is this?"),))


def test_an_image_that_says_it_was_judged_is_judged_again(paint):
    (message,) = read(Message(role="user", parts=(Image(source="x.png", judged=from_array(paint(0, 0, 0))),)))
    assert message.images[0].judged is None
    assert message.images[0].source == "x.png"


@pytest.mark.parametrize(
    "part",
    [
        *(
            {"type": kind, kind: {"url": URL}}
            for kind in (
                "input_image",
                "image",
                "image_pil",
                "video_url",
                "image_embeds",
                "prompt_embeds",
                "audio_url",
            )
        ),
        {"type": "input_text", "text": "x"},
        {"type": "thinking", "thinking": "x"},
        {"type": "refusal", "refusal": "x"},
        {"type": ["text"], "text": "x"},
        {"type": "Text", "text": "x"},
        {"text": "x"},
        {"type": "text", "text": [IMAGE]},
        {"type": "text", "text": None},
        {"type": "text", "text": "x", "image_url": {"url": URL}},
        {"type": "text", "text": "x", "cache_control": {}},
        {"type": "image_url", "image_url": URL},
        {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": [URL]}},
        {"type": "image_url", "image_url": {}},
        {"type": "image_url", "image_url": {"url": URL}, "uuid": "1"},
        [IMAGE],
        "text",
        None,
        7,
    ],
)
def test_parts_that_are_not_known_are_refused(part):
    with pytest.raises(ConversationError, match=r"messages\[0\]\.content\[1\]"):
        read(user(TEXT, part))


@pytest.mark.parametrize(
    "message",
    [
        {"role": "developer", "content": "x"},
        {"role": "function", "content": "x"},
        {"role": "User", "content": "x"},
        {"role": ["user"], "content": "x"},
        {"content": "x"},
        {"role": "user"},
        {"role": "user", "content": None},
        {"role": "user", "content": {"type": "text", "text": "x"}},
        {"role": "user", "content": 7},
        {"role": "user", "content": b"x"},
        {"role": "user", "content": "x", "name": "y"},
        {"role": "user", "content": "x", "images": [URL]},
        {"role": "user", "content": "x", "tool_calls": [CALL]},
        {"role": "user", "content": "x", 7: "y"},
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "assistant", "content": "x", "tool_calls": [CALL | {"type": "custom"}]},
        {"role": "assistant", "content": "x", "tool_calls": [CALL | {"image": URL}]},
        {"role": "assistant", "content": "x", "tool_calls": [CALL | {"function": {"name": "f", "arguments": {}}}]},
        {"role": "assistant", "content": "x", "function_call": {}},
        {"role": "tool", "content": "x"},
        {"role": "tool", "content": "x", "tool_call_id": 7},
        "user: x",
        None,
        [],
        Message(role="developer", parts=()),
        Message(role="user", parts=("x",)),
        Message(role="user", parts=(Text(text=7),)),
        Message(role="tool", parts=()),
        Message(role="user", parts=(), tool_call_id="1"),
        Message(role="user", parts=(), tool_calls=(ToolCall(id="1", name="f", arguments="{}"),)),
        Message(role="assistant", parts=(), tool_calls=(CALL,)),
        Message(role="assistant", parts=(), tool_calls=(ToolCall(id="1", name="f", arguments={"image": URL}),)),
        Message(role="assistant", parts=(), tool_calls=None),
        Message(role="tool", parts=(), tool_call_id={"url": URL}),
        Message(role="user", parts=None),
        Message(role="user", parts="text"),
    ],
)
def test_messages_that_are_not_known_are_refused(message):
    with pytest.raises(ConversationError, match=r"messages\[0\]"):
        read(message)


@pytest.mark.parametrize(
    "url", ["http://h/a.png", "https://h/a.png", "file:///etc/passwd", "//h/a.png", "a.png", "DATA:,", "", " " + URL]
)
def test_addresses_are_refused_and_not_repeated(url):
    with pytest.raises(ConversationRemoteImage) as caught:
        read(user({"type": "image_url", "image_url": {"url": url}}))
    assert not url or url not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,",
        "data:image/svg+xml;base64,QUJD",
        "data:text/plain;base64,QUJD",
        "data:image/png,QUJD",
        "data:image/png;charset=x;base64,QUJD",
        "data:image/PNG;base64,QUJD",
        "data:image/png;base64,QUJ",
        "data:image/png;base64,QUI",
        "data:image/png;base64,QUJ=",  # bits beyond the last byte
        "data:image/png;base64,QU J",
        "data:image/png;base64,QUJD\n",
        "data:image/png;base64,QU-_",
        "data:image/png;base64,QUJD=QUJD",
        "data:image/png;base64,QUJDQ===",
    ],
)
def test_data_urls_with_more_than_one_reading_are_refused(url):
    with pytest.raises(ConversationError, match="plain, padded base64"):
        read(user({"type": "image_url", "image_url": {"url": url}}))


def test_images_of_all_turns_are_counted_together():
    many = [user(IMAGE, IMAGE, IMAGE, IMAGE), user(IMAGE, IMAGE, IMAGE, IMAGE)]
    assert sum(len(message.images) for message in read(*many)) == 8
    with pytest.raises(ConversationTooManyImages, match="9 images; up to 8"):
        read(*many, user(IMAGE))
    with pytest.raises(ConversationTooManyImages):
        read_conversation("x", ["a.png", "b.png"], None, max_images=1)


@pytest.mark.parametrize(
    ("prompt", "images", "messages"),
    [
        (None, (), None),
        ("x", (), [user(TEXT)]),
        (None, ["a.png"], [user(TEXT)]),
        (None, (), []),
        (None, (), {"role": "user", "content": "x"}),
        (None, (), "x"),
        (7, (), None),
        ("x", "a.png", None),
        ("x", b"bytes", None),
    ],
)
def test_a_request_is_either_a_prompt_or_messages(prompt, images, messages):
    with pytest.raises(ConversationError):
        read_conversation(prompt, images, messages)
