"""What is wrong with a file that a person wrote: where it is, in the file's own keys, and what may stand there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

MAX_LINE = 80

_AT = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>\d+|\.\.\.)\]")
_LINE = re.compile(r"\(at line (\d+)")


def toml_message(problem: ValueError, text: str) -> str:
    """What a TOML reader says, with the line that it says it of."""
    found = _LINE.search(str(problem))
    lines = text.splitlines()
    if found is None or not 0 < int(found[1]) <= len(lines):
        return str(problem)
    quotes = '; words stand in quotes, as "block"' if str(problem).startswith("Invalid value") else ""
    return f"{problem}: {lines[int(found[1]) - 1].strip()[:MAX_LINE]}{quotes}"


def value_message(problem: msgspec.ValidationError, raw: Any, kind: Any) -> str:
    """What msgspec says, with the keys that it leaves out of the path and the values or keys that are known.

    Args:
        problem: Of `msgspec.convert(raw, kind, strict=True)`.
        raw: What was read.
        kind: What it should have been.
    """
    message, path = str(problem), ""
    found = _AT.search(message)
    if found is not None:
        steps = list(_STEP.finditer(found["path"]))
        if "".join(step[0] for step in steps) != found["path"]:
            return message
        path, kind = _follow(steps, raw, kind)
        message = message[: found.start()] + f" - at `{path}`"
    known = _known(message, kind)
    return f"{message}; known are: {', '.join(known)}" if known else message


def _follow(steps: list[re.Match[str]], value: Any, kind: Any) -> tuple[str, Any]:
    """The path in the file's own keys, and the type of what lies there."""
    path = ""
    for step in steps:
        kind = _without_none(kind)
        key: Any = step["key"] if step["index"] is None else step["index"]
        if step["index"] is None:
            kind = get_type_hints(kind).get(key) if isinstance(kind, type) else None
        elif key == "...":
            kind = _item(kind)
            items = value.items() if isinstance(value, Mapping) else ()
            key = next((name for name, item in items if not _fits(item, kind)), "...")
        else:
            kind, key = _item(kind), int(key)
        value = value[key] if isinstance(value, Mapping) and key in value else _element(value, key)
        path += f"[{key}]" if isinstance(key, int) else f".{key}"
    return path.lstrip("."), _without_none(kind)


def _item(kind: Any) -> Any:
    """The type of what a dict or a tuple of any length holds."""
    arguments = get_args(kind)
    if not arguments:
        return None
    return arguments[-1] if get_origin(kind) is dict else arguments[0]


def _element(value: Any, key: Any) -> Any:
    return value[key] if isinstance(value, list) and isinstance(key, int) and key < len(value) else None


def _fits(value: Any, kind: Any) -> bool:
    if kind is None:
        return True
    try:
        msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError:
        return False
    return True


def _without_none(kind: Any) -> Any:
    """`X` for `X | None`."""
    others = [one for one in get_args(kind) if one is not type(None)]
    return others[0] if type(None) in get_args(kind) and len(others) == 1 else kind


def _known(message: str, kind: Any) -> tuple[str, ...]:
    """The values of an enumeration or the keys of a table, where something else stood."""
    if message.startswith("Invalid enum value"):
        if get_origin(kind) is Literal:
            return tuple(repr(value) if isinstance(value, str) else str(value) for value in get_args(kind))
        if isinstance(kind, type) and issubclass(kind, Enum):
            return tuple(repr(one.value) for one in kind)
    if message.startswith("Object contains unknown field") and isinstance(kind, type):
        return tuple(field.encode_name for field in msgspec.structs.fields(kind))
    return ()
