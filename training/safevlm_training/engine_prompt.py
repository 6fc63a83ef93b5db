"""What an engine's request is for a SafeVLM: a conversation, its pictures, and the options of a generation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image as PilImage

from safevlm_sdk.chat import Message, Text, ToolCall, images_of
from safevlm_sdk.errors import ConversationError, OptionError
from safevlm_training.vlm.processor import SafeVLMProcessor

MAX_TOKENS = 512
_NAMES = ("max_tokens", "temperature", "top_p")


def conversation_of(messages: Sequence[Message]) -> list[Mapping[str, Any]]:
    """Messages as chat templates take them, with a placeholder for each image."""
    return [_turn(message) for message in messages]


def pictures_of(messages: Sequence[Message]) -> list[PilImage.Image]:
    """The judged pixels of all images, in reading order.

    Raises:
        ImageNotJudged: No gate has judged one of them.
    """
    return [PilImage.fromarray(image.pixels) for image in images_of(messages)]


def refuse_control_tokens(messages: Sequence[Message], processor: SafeVLMProcessor) -> None:
    """Refuses texts with tokens that end a turn, stand for an image, or speak for the gate.

    Raises:
        ConversationError: With the message's number and the token.
    """
    tokenizer = processor.tokenizer
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    special |= {processor.placeholder, *tokenizer.all_special_tokens}
    for number, message in enumerate(messages):
        for part in message.parts:
            found = sorted(token for token in special if isinstance(part, Text) and token in part.text)
            if found:
                raise ConversationError(
                    f"messages[{number}]: a text holds {found[0]!r}, which is a mark of this model's own and "
                    "nobody's to type; remove it from the text"
                )


def generation_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by OpenAI's names, as `generate` of transformers takes them; greedy unless a temperature is given.

    Raises:
        OptionError: One is not known, or is out of range.
    """
    strange = sorted(set(options) - set(_NAMES))
    if strange:
        raise OptionError(f"unknown option {strange[0]!r}; this engine takes {', '.join(_NAMES)}")
    tokens, temperature = options.get("max_tokens", MAX_TOKENS), options.get("temperature", 0)
    top_p = options.get("top_p", 1.0)
    if type(tokens) is not int or tokens < 1:
        raise OptionError(f"max_tokens is {tokens!r}; give a whole number of at least 1")
    if not _number(temperature) or not 0 <= temperature <= 2 or not _number(top_p) or not 0 < top_p <= 1:
        raise OptionError(f"temperature is {temperature!r} and top_p is {top_p!r}; give 0 to 2, and above 0 up to 1")
    if temperature == 0:
        return {"max_new_tokens": tokens, "do_sample": False}
    return {"max_new_tokens": tokens, "do_sample": True, "temperature": float(temperature), "top_p": float(top_p)}


def _turn(message: Message) -> dict[str, Any]:
    content = [
        {"type": "text", "text": part.text} if isinstance(part, Text) else {"type": "image"} for part in message.parts
    ]
    turn: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls:
        turn["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _call(call: ToolCall) -> dict[str, Any]:
    """Chat templates write the arguments themselves."""
    try:
        arguments = json.loads(call.arguments)
    except ValueError as problem:
        raise ConversationError(
            "the arguments of a tool call are no JSON; give them as the model wrote them"
        ) from problem
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
