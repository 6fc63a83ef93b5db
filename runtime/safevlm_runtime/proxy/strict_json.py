"""JSON with one reading: what two parsers could read in two ways is refused."""

from __future__ import annotations

import json
import math
from typing import Any, Final

import msgspec

from safevlm_sdk.errors import BadRequest

MAX_DEPTH: Final = 32
MAX_VALUES: Final = 250_000
"""Of commas and brackets in a body: small values take up to twenty times their bytes once they are parsed."""
MAX_DIGITS: Final = 400


def loads(data: bytes | bytearray) -> Any:
    """Reads a JSON text.

    Raises:
        BadRequest: It is no UTF-8, starts with a byte order mark, is no JSON of RFC 8259, has a key twice in one
            object, a number that is not finite, half a surrogate pair, too many values or more than 32 levels.
    """
    if data.startswith(b"\xef\xbb\xbf"):
        raise BadRequest("the body starts with a byte order mark; send plain UTF-8")
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise BadRequest(f"the body has more than {MAX_VALUES} commas and brackets; send less text or fewer values")
    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except UnicodeDecodeError as problem:
        raise BadRequest(f"the body is not UTF-8 at byte {problem.start}") from problem
    except json.JSONDecodeError as problem:
        raise BadRequest(f"the body is not JSON at character {problem.pos}: {problem.msg}") from problem
    except RecursionError as problem:
        raise _too_deep() from problem
    _check(value)
    return value


def dumps(value: Any) -> bytes:
    """The one serialisation that is forwarded: UTF-8, no blanks, keys in their order.

    Raises:
        ValueError: A number is not finite.
        TypeError: There is something that JSON has no value for.
    """
    _require_json(value)
    return msgspec.json.encode(value)


def shown(text: str) -> str:
    """A stranger's text, short and without control characters, for a message."""
    return ascii(text if len(text) <= 64 else text[:61] + "...")


def _require_json(value: Any) -> None:
    """Refuses what msgspec would quietly write as null, or as a string."""
    rest = [value]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            rest += one.values()
        elif isinstance(one, (list, tuple)):
            rest += one
        elif isinstance(one, float):
            if not math.isfinite(one):
                raise ValueError("a number is not finite")
        elif not isinstance(one, (str, int, type(None))):
            raise TypeError(f"a {type(one).__name__} is no value of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadRequest(f"the key {shown(twice)} stands twice in one object; parsers differ in which one they take")
    return found


def _constant(name: str) -> Any:
    raise BadRequest(f"{name} is no JSON value; send a finite number or null")


def _float(text: str) -> float:
    value = float(text) if len(text) <= MAX_DIGITS else math.inf
    if not math.isfinite(value):
        raise BadRequest("a number is too large or too long; send a finite number")
    return value


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise BadRequest(f"a number has more than {MAX_DIGITS} digits")
    return int(text)


def _check(value: Any) -> None:
    """Refuses deep nesting and half surrogate pairs, without recursion."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH and any(isinstance(one, (dict, list)) for one in level):
            raise _too_deep()
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += one
                below += one.values()
            elif isinstance(one, list):
                below += one
            elif isinstance(one, str):
                _check_text(one)
        level = below


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as problem:
        raise BadRequest("a string holds half a surrogate pair; send whole characters") from problem


def _too_deep() -> BadRequest:
    return BadRequest(f"the body is nested more than {MAX_DEPTH} levels deep")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int, strict=True
)
