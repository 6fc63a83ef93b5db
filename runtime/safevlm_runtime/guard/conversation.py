"""Reads what an application says into messages: whatever is not known here is refused, never passed on."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from safevlm_sdk.chat import ROLES, Image, Message, Part, Text, ToolCall, images_of
from safevlm_sdk.errors import ConversationError, ConversationRemoteImage, ConversationTooManyImages
from safevlm_sdk.raster import ImageSource

MAX_IMAGES = 8
"""Images of one request, over all of its turns, unless a guard is told otherwise."""

Given: TypeAlias = Message | Mapping[str, Any]

_DATA_URL = re.compile(r"data:image/(?:png|jpeg|webp|gif);base64,([A-Za-z0-9+/]+={0,2})", re.ASCII)
_KEYS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls"},
    "tool": {"role", "content", "tool_call_id"},
}


def read_conversation(
    prompt: str | None,
    images: Sequence[ImageSource],
    messages: Sequence[Given] | None,
    *,
    max_images: int = MAX_IMAGES,
) -> tuple[Message, ...]:
    """The messages of a request, given as a question with images or as a conversation.

    Args:
        prompt: A question, with `images` before it.
        images: As `Runtime.check` takes them.
        messages: `Message` values, or mappings as OpenAI's chat completions have them: `content` is a text or a list
            of parts of type `text` and `image_url`, whose `url` is a data URL.
        max_images: Of all turns together.

    Raises:
        ConversationError: Something is not known, or not of its kind; the message says where.
        ConversationRemoteImage: An image is named by an address.
        ConversationTooManyImages: There are more than `max_images`.
    """
    if (prompt is None) == (messages is None) or (messages is not None and len(images)):
        raise ConversationError("give either a prompt with its images, or messages that hold their images")
    read = _question(prompt, images) if messages is None else _messages(messages)
    count = len(images_of(read))
    if count > max_images:
        raise ConversationTooManyImages(
            f"the request has {count} images; up to {max_images} are judged for one: send fewer, or set max_images"
        )
    return read


def _question(prompt: object, images: object) -> tuple[Message, ...]:
    if not isinstance(prompt, str):
        raise _wrong("prompt", "a text", prompt)
    if not isinstance(images, (list, tuple)):
        raise _wrong("images", "a list", images)
    return (Message(role="user", parts=(*(Image(source=image) for image in images), Text(text=prompt))),)


def _messages(messages: object) -> tuple[Message, ...]:
    given = _list(messages, "messages")
    if not given:
        raise ConversationError("messages is empty; give at least one of the user")
    return tuple(_message(one, f"messages[{number}]") for number, one in enumerate(given))


def _message(given: object, where: str) -> Message:
    if type(given) is Message:
        return _own_message(given, where)
    fields = _fields(given, where)
    role = fields.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise ConversationError(f"{where}.role is not one of {', '.join(ROLES)}; nothing else is passed on")
    _only(fields, _KEYS[role], where)
    calls = _tool_calls(fields["tool_calls"], f"{where}.tool_calls") if "tool_calls" in fields else ()
    content = fields.get("content")
    parts = () if content is None and calls else _content(content, f"{where}.content")
    call_id = _text(fields.get("tool_call_id"), f"{where}.tool_call_id") if role == "tool" else None
    return Message(role=role, parts=parts, tool_calls=calls, tool_call_id=call_id)  # type: ignore[arg-type] # checked


def _own_message(given: Message, where: str) -> Message:
    """A message value, whose fields may hold anything."""
    if given.role not in ROLES:
        raise ConversationError(f"{where}.role is not one of {', '.join(ROLES)}; nothing else is passed on")
    calls = _list(given.tool_calls, f"{where}.tool_calls")
    if (calls and given.role != "assistant") or not all(type(call) is ToolCall for call in calls):
        raise ConversationError(f"{where}.tool_calls is for an assistant, and holds ToolCall values only")
    if (given.tool_call_id is not None) != (given.role == "tool"):
        raise ConversationError(f"{where}.tool_call_id is for a tool's message, which needs one")
    parts = enumerate(_list(given.parts, f"{where}.parts"))
    return Message(
        role=given.role,
        parts=tuple(_own_part(part, f"{where}.parts[{number}]") for number, part in parts),
        tool_calls=tuple(_own_call(call, f"{where}.tool_calls[{number}]") for number, call in enumerate(calls)),
        tool_call_id=None if given.role != "tool" else _text(given.tool_call_id, f"{where}.tool_call_id"),
    )


def _own_call(call: ToolCall, where: str) -> ToolCall:
    return ToolCall(
        id=_text(call.id, f"{where}.id"),
        name=_text(call.name, f"{where}.name"),
        arguments=_text(call.arguments, f"{where}.arguments"),
    )


def _own_part(part: object, where: str) -> Part:
    if type(part) is Text:
        return Text(text=_text(part.text, f"{where}.text"))
    if type(part) is Image:
        return Image(source=part.source)  # judged again, whoever says that it was
    raise _wrong(where, "Text or Image", part)


def _content(content: object, where: str) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(text=content),)
    return tuple(_part(part, f"{where}[{number}]") for number, part in enumerate(_list(content, where)))


def _part(given: object, where: str) -> Part:
    if type(given) in (Text, Image):
        return _own_part(given, where)
    fields = _fields(given, where)
    kind = fields.get("type")
    read = _PARTS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise ConversationError(f"{where}.type is not one of {', '.join(_PARTS)}; nothing else is passed on")
    return read(fields, where)


def _text_part(fields: dict[str, Any], where: str) -> Part:
    _only(fields, {"type", "text"}, where)
    return Text(text=_text(fields.get("text"), f"{where}.text"))


def _image_part(fields: dict[str, Any], where: str) -> Part:
    _only(fields, {"type", "image_url"}, where)
    inner = _fields(fields.get("image_url"), f"{where}.image_url")
    _only(inner, {"url"}, f"{where}.image_url")
    return Image(source=_decoded(_text(inner.get("url"), f"{where}.image_url.url"), f"{where}.image_url.url"))


_PARTS: dict[str, Callable[[dict[str, Any], str], Part]] = {"text": _text_part, "image_url": _image_part}


def _decoded(url: str, where: str) -> bytes:
    if not url.startswith("data:"):
        raise ConversationRemoteImage(
            f"{where} is no data URL, and nothing is fetched; load the image and give it as data:image/…;base64,…"
        )
    found = _DATA_URL.fullmatch(url)
    encoded = "" if found is None else found.group(1)
    # An encoding with more than one reading is one that two readers may read in two ways.
    if len(encoded) % 4 or not encoded or b64encode(data := b64decode(encoded)).decode("ascii") != encoded:
        raise ConversationError(
            f"{where} is no data URL of a PNG, JPEG, WebP or GIF image in plain, padded base64; encode the image anew"
        )
    return data


def _tool_calls(given: object, where: str) -> tuple[ToolCall, ...]:
    calls = []
    for number, one in enumerate(_list(given, where)):
        at = f"{where}[{number}]"
        fields = _fields(one, at)
        _only(fields, {"id", "type", "function"}, at)
        if fields.get("type") != "function":
            raise ConversationError(f"{at}.type is not function; nothing else is passed on")
        function = _fields(fields.get("function"), f"{at}.function")
        _only(function, {"name", "arguments"}, f"{at}.function")
        texts = (fields.get("id"), function.get("name"), function.get("arguments"))
        names = (f"{at}.id", f"{at}.function.name", f"{at}.function.arguments")
        call_id, name, arguments = (_text(text, place) for text, place in zip(texts, names, strict=True))
        calls.append(ToolCall(id=call_id, name=name, arguments=arguments))
    return tuple(calls)


def _fields(given: object, where: str) -> dict[str, Any]:
    """A copy, so that what was checked is what goes on."""
    if not isinstance(given, Mapping):
        raise _wrong(where, "a mapping", given)
    return dict(given)


def _only(fields: dict[str, Any], known: set[str], where: str) -> None:
    # The name of an unknown key is the caller's text, which has no place in a message that may be logged.
    strange = len(set(fields) - known)
    if strange:
        raise ConversationError(
            f"{where} has {strange} unknown keys; it takes {', '.join(sorted(known))}, and nothing else is passed on"
        )


def _list(given: object, where: str) -> list[Any]:
    if not isinstance(given, (list, tuple)):
        raise _wrong(where, "a list", given)
    return list(given)


def _text(given: object, where: str) -> str:
    if not isinstance(given, str):
        raise _wrong(where, "a text", given)
    return given


def _wrong(where: str, wanted: str, found: object) -> ConversationError:
    return ConversationError(f"{where} is of type {type(found).__name__}; give {wanted}")
