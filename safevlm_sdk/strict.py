"""Strict reading of JSON and TOML into typed values: unknown, missing and mistyped keys are errors."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any, TypeVar

import msgspec

from safevlm_sdk.errors import SafeVLMError
from safevlm_sdk.strict_messages import toml_message, value_message

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The base of every part of a file that is read strictly."""


def from_toml(text: str | bytes, kind: type[T], *, error: type[SafeVLMError], where: str) -> T:
    """Reads TOML as `kind`; `where` names the source in the error's message."""
    try:
        raw = _toml(text.decode("utf-8") if isinstance(text, bytes) else text)
        return _converted(raw, kind)
    except (ValueError, RecursionError, msgspec.MsgspecError) as problem:
        raise error(f"{where}: {problem}") from problem


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise ValueError(toml_message(problem, text)) from problem


def _converted(raw: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(raw, kind, strict=True)
    except msgspec.ValidationError as problem:
        raise ValueError(value_message(problem, raw, kind)) from problem


def from_json(data: bytes, kind: type[T], *, error: type[SafeVLMError], where: str) -> T:
    """Reads JSON as `kind`, refusing what is not canonical (see `canonical_json`).

    Canonical bytes leave no room for duplicate keys, NaN or a second spelling of the same value.
    """
    try:
        value = msgspec.json.decode(data, type=kind, strict=True)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as problem:
        raise error(f"{where}: {problem}") from problem
    if canonical_json(value) != data:
        raise error(
            f"{where}: the JSON is not canonical (sorted keys, no spaces, no duplicates, every field present); "
            "it was edited by hand: make it again with the command that wrote it"
        )
    return value


def canonical_json(value: Any) -> bytes:
    """The one spelling of `value`: sorted keys, no spaces, UTF-8, shortest round-trip floats, no NaN."""
    plain = msgspec.to_builtins(value)
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def digest(data: bytes) -> str:
    """`sha256:` and the hash of `data` in hexadecimal."""
    return "sha256:" + hashlib.sha256(data).hexdigest()
