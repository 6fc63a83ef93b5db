"""The body of /v1/responses: what may be in it, and where its images are.

Whatever the upstream would look up by an identifier (an earlier response, a conversation, a file, a stored prompt)
was not seen by the gate, and is refused. So are tools that fetch or make images on the server's side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from safevlm_runtime.proxy.common_fields import (
    ASKING,
    COUNT,
    DETAIL,
    EFFORT,
    FLAG,
    LABEL,
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
    opaque,
    record,
    tagged,
    text,
)

_INPUT_TEXT: Final = record({"type": text, "text": text}, ("type", "text"))
_INPUT_IMAGE: Final = record(
    {"type": text, "image_url": text, "detail": DETAIL, "file_id": only(None)}, ("type", "image_url")
)
_OUTPUT_TEXT: Final = record(
    {"type": text, "text": text, "annotations": nullable(many(text, 0)), "logprobs": nullable(many(text, 0))},
    ("type", "text"),
)
_REFUSAL: Final = record({"type": text, "refusal": text}, ("type", "refusal"))
_SUMMARY: Final = record({"type": one_of("summary_text"), "text": text}, ("text",))
_THOUGHT: Final = record({"type": one_of("reasoning_text"), "text": text}, ("text",))


_ITEM: Final[dict[str, Check]] = {"type": text, "id": LABEL, "status": LABEL}
_TURN: Final = _ITEM | {"role": text, "phase": LABEL}
_INSTRUCTION: Final = record(_TURN | {"content": content(input_text=_INPUT_TEXT)}, ("content",))
_USER: Final = record(_TURN | {"content": content(input_text=_INPUT_TEXT, input_image=_INPUT_IMAGE)}, ("content",))
_ASSISTANT: Final = record(
    _TURN | {"content": content(output_text=_OUTPUT_TEXT, refusal=_REFUSAL, input_text=_INPUT_TEXT)}, ("content",)
)
_MESSAGE: Final = tagged(
    "role", {"system": _INSTRUCTION, "developer": _INSTRUCTION, "user": _USER, "assistant": _ASSISTANT}
)
_CALL: Final = record(
    _ITEM | {"call_id": label, "name": label, "arguments": text, "namespace": only(None)},
    ("call_id", "name", "arguments"),
)
_OUTPUT: Final = record(
    _ITEM | {"call_id": label, "output": content(input_text=_INPUT_TEXT, input_image=_INPUT_IMAGE)},
    ("call_id", "output"),
)
_REASONING: Final = record(
    _ITEM
    | {
        "summary": many(_SUMMARY),
        "content": nullable(many(_THOUGHT)),
        "encrypted_content": nullable(opaque),
    },
    ("summary",),
)
_INPUT: Final = either(
    str,
    text,
    many(
        tagged(
            "type",
            {
                "message": _MESSAGE,
                "function_call": _CALL,
                "function_call_output": _OUTPUT,
                "reasoning": _REASONING,
            },
            default="message",
        )
    ),
)
_TOOL: Final = record(
    {"type": text, "name": label, "description": TEXT, "parameters": SCHEMA, "strict": FLAG}, ("name",)
)
_TOOL_CHOICE: Final = either(
    str,
    one_of("none", "auto", "required"),
    tagged("type", {"function": record({"type": text, "name": label}, ("name",))}),
)
_FORMAT: Final = tagged(
    "type",
    {
        "text": record({"type": text}),
        "json_object": record({"type": text}),
        "json_schema": record(
            {"type": text, "name": label, "description": TEXT, "schema": SCHEMA, "strict": FLAG}, ("name", "schema")
        ),
    },
)
_BODY: Final = record(
    SAMPLING
    | ASKING
    | {
        "model": label,
        "input": _INPUT,
        "instructions": TEXT,
        "stream": FLAG,
        "stream_options": nullable(record({"include_obfuscation": FLAG})),
        "max_output_tokens": COUNT,
        "max_tool_calls": COUNT,
        "include": nullable(
            many(one_of("reasoning.encrypted_content", "message.output_text.logprobs"), 8),
        ),
        "reasoning": nullable(record({"effort": EFFORT, "summary": LABEL})),
        "text": nullable(record({"format": nullable(_FORMAT), "verbosity": VERBOSITY})),
        "tools": nullable(many(tagged("type", {"function": _TOOL}), 512)),
        "tool_choice": nullable(_TOOL_CHOICE),
        "truncation": nullable(one_of("auto", "disabled")),
        "top_logprobs": nullable(integer(0, 128)),
        "previous_response_id": only(None),
        "conversation": only(None),
        "prompt": only(None),
    },
    ("model", "input"),
)


def read_responses(body: Any) -> ParsedRequest:
    """Checks a parsed body against the allow-list and finds its images.

    Raises:
        RequestError: Something is unknown or not of its shape; `param` says where.
    """
    _BODY(body, "")
    items = body["input"] if isinstance(body["input"], list) else []
    return ParsedRequest(
        body=body, slots=tuple(_slots(items)), model=body["model"], stream=body.get("stream") is True
    )


def _slots(items: list[dict[str, Any]]) -> Iterator[Slot]:
    for index, item in enumerate(items):
        field = "output" if item.get("type") == "function_call_output" else "content"
        if item.get("type") == "reasoning":
            continue
        yield from images_in(
            item.get(field), f"input[{index}].{field}", text_type="input_text", image_type="input_image"
        )
