"""Requests and replies in the form of OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safevlm_runtime.guard.forwarded import data_url_of
from safevlm_sdk.chat import Message, Part, Reply, Text, ToolCall, Usage
from safevlm_sdk.errors import ChatEngineError, OptionError

OPTIONS = frozenset(
    {
        "frequency_penalty",
        "max_completion_tokens",
        "max_tokens",
        "presence_penalty",
        "response_format",
        "seed",
        "stop",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
    }
)
"""What a request may set; nothing among them can carry an image or name another model."""


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the options.

    Raises:
        OptionError: One is not known.
    """
    strange = sorted(set(options) - OPTIONS)
    if strange:
        raise OptionError(f"unknown option {strange[0]!r}; a request takes {', '.join(sorted(OPTIONS))}")
    return dict(options)


def message_form(message: Message) -> dict[str, Any]:
    """One message; its images are the judged pixels as data URLs of PNG files."""
    form: dict[str, Any] = {"role": message.role, "content": _content(message.parts)}
    if message.tool_calls:
        form["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        form["tool_call_id"] = message.tool_call_id
    return form


def reply_of(completion: Any) -> Reply:
    """What a chat completion says.

    Raises:
        ChatEngineError: It has no choice, or no text where there must be one.
    """
    try:
        choice = completion.choices[0]
        text, calls = choice.message.content or "", choice.message.tool_calls or ()
        if not isinstance(text, str):
            raise TypeError
        tool_calls = tuple(
            ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments) for call in calls
        )
        used = completion.usage
        usage = None
        if used is not None:
            usage = Usage(prompt_tokens=used.prompt_tokens, completion_tokens=used.completion_tokens)
        return Reply(text=text, finish_reason=choice.finish_reason, usage=usage, tool_calls=tool_calls)
    except (AttributeError, IndexError, TypeError):
        raise ChatEngineError("the engine's reply is no chat completion; look at what serves the address") from None


def text_of(chunk: Any) -> str:
    """The text in a chunk of a streamed completion; empty where it brings none.

    Raises:
        ChatEngineError: It is no chunk.
    """
    try:
        text = chunk.choices[0].delta.content if chunk.choices else None
    except (AttributeError, IndexError, TypeError):
        text = b""
    if not isinstance(text, (str, type(None))):
        raise ChatEngineError("the engine streams something else than a chat completion; look at what serves it")
    return text or ""


def _content(parts: tuple[Part, ...]) -> str | list[dict[str, Any]] | None:
    """A lone text stays a text: some servers' templates take nothing else from a system or an assistant."""
    if not parts:
        return None
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    return [
        {"type": "text", "text": part.text}
        if isinstance(part, Text)
        else {"type": "image_url", "image_url": {"url": data_url_of(part.pixels)}}
        for part in parts
    ]
