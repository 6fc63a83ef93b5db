"""The body of /v1/chat/completions: what may be in it, and where its images are."""

from __future__ import annotations

from typing import Any, Final

from safevlm_runtime.proxy.common_fields import (
    ASKING,
    COUNT,
    DETAIL,
    EFFORT,
    FLAG,
    LABEL,
    MAX_CHOICES,
    SAMPLING,
    SCHEMA,
    TEXT,
    VERBOSITY,
    content,
)
from safevlm_runtime.proxy.parsed import ParsedRequest, Slot, images_in
from safevlm_runtime.proxy.shapes import (
    Check,
    either,
    integer,
    label,
    many,
    nullable,
    one_of,
    only,
    record,
    tagged,
    text,
)

_TEXT_PART: Final = record({"type": text, "text": text}, ("type", "text"))
_IMAGE_PART: Final = record(
    {"type": text, "image_url": record({"url": text, "detail": DETAIL}, ("url",))}, ("type", "image_url")
)
_REFUSAL_PART: Final = record({"type": text, "refusal": text}, ("type", "refusal"))


_TEXTS: Final = content(text=_TEXT_PART)
_TEXTS_AND_IMAGES: Final = content(text=_TEXT_PART, image_url=_IMAGE_PART)
_FUNCTION_CALL: Final = record({"name": label, "arguments": text}, ("name", "arguments"))
_TOOL_CALL: Final = record(
    {"id": label, "type": text, "function": _FUNCTION_CALL, "index": integer(0, 4096)}, ("id", "type", "function")
)
_TURN: Final[dict[str, Check]] = {"role": text, "name": LABEL}
_INSTRUCTION: Final = record(_TURN | {"content": _TEXTS}, ("content",))
_USER: Final = record(_TURN | {"content": _TEXTS_AND_IMAGES}, ("content",))
_ASSISTANT: Final = record(
    _TURN
    | {
        "content": nullable(content(text=_TEXT_PART, refusal=_REFUSAL_PART)),
        "refusal": TEXT,
        "reasoning": TEXT,
        "reasoning_content": TEXT,
        "tool_calls": nullable(many(tagged("type", {"function": _TOOL_CALL}))),
        # Clients send an answer back as it came, with what it did not have as null.
        "audio": only(None),
        "function_call": only(None),
        "annotations": nullable(many(text, 0)),
    }
)
_TOOL: Final = record(_TURN | {"content": _TEXTS_AND_IMAGES, "tool_call_id": label}, ("content", "tool_call_id"))
_MESSAGE: Final = tagged(
    "role",
    {"system": _INSTRUCTION, "developer": _INSTRUCTION, "user": _USER, "assistant": _ASSISTANT, "tool": _TOOL},
)
_NAMED: Final = record({"name": label}, ("name",))
_TOOL_CHOICE: Final = either(
    str,
    one_of("none", "auto", "required"),
    tagged("type", {"function": record({"type": text, "function": _NAMED}, ("function",))}),
)
_DECLARED: Final = record({"name": label, "description": TEXT, "parameters": SCHEMA, "strict": FLAG}, ("name",))
_TOOLS: Final = many(tagged("type", {"function": record({"type": text, "function": _DECLARED}, ("function",))}), 512)
_FORMAT: Final = tagged(
    "type",
    {
        "text": record({"type": text}),
        "json_object": record({"type": text}),
        "json_schema": record(
            {
                "type": text,
                "json_schema": record({"name": label, "description": TEXT, "schema": SCHEMA, "strict": FLAG}),
            },
            ("json_schema",),
        ),
    },
)
_BODY: Final = record(
    SAMPLING
    | ASKING
    | {
        "model": label,
        "messages": many(_MESSAGE),
        "stream": FLAG,
        "stream_options": nullable(
            record({"include_usage": FLAG, "include_obfuscation": FLAG, "continuous_usage_stats": FLAG})
        ),
        "n": nullable(integer(1, MAX_CHOICES)),
        "max_tokens": COUNT,
        "max_completion_tokens": COUNT,
        "logprobs": FLAG,
        "reasoning_effort": EFFORT,
        "verbosity": VERBOSITY,
        "response_format": nullable(_FORMAT),
        "tools": nullable(_TOOLS),
        "tool_choice": nullable(_TOOL_CHOICE),
    },
    ("model", "messages"),
)


def read_chat(body: Any) -> ParsedRequest:
    """Checks a parsed body against the allow-list and finds its images.

    Raises:
        RequestError: Something is unknown or not of its shape; `param` says where.
    """
    _BODY(body, "")
    return ParsedRequest(
        body=body,
        slots=tuple(_slots(body["messages"])),
        model=body["model"],
        stream=body.get("stream") is True,
        choices=body.get("n") or 1,
        wants_usage=(body.get("stream_options") or {}).get("include_usage") is True,
    )


def _slots(messages: list[dict[str, Any]]) -> list[Slot]:
    return [
        slot
        for index, message in enumerate(messages)
        for slot in images_in(
            message.get("content"), f"messages[{index}].content", text_type="text", image_type="image_url"
        )
    ]
