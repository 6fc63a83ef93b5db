"""Small checks that are put together to the shape of a request body: whatever is not named is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from safevlm_runtime.proxy.strict_json import shown
from safevlm_sdk.errors import BadRequest, UnknownField, UnsupportedPart

Check: TypeAlias = Callable[[Any, str], None]
"""Takes a parsed value and its JSON path; raises a RequestError if the value is not of the shape."""

MAX_ITEMS: Final = 4096
MAX_LABEL: Final = 1024
_KINDS: Final = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def text(value: Any, path: str) -> None:
    """A string."""
    if type(value) is not str:
        raise wrong(path, "a string", value)


def boolean(value: Any, path: str) -> None:
    """True or false."""
    if type(value) is not bool:
        raise wrong(path, "true or false", value)


def inert(value: Any, path: str) -> None:
    """Any JSON value that no upstream reads an image out of, as a JSON schema; one that holds an image is refused."""
    if isinstance(value, str) and value.lstrip()[:5].lower() == "data:":
        raise UnsupportedPart(f"{path} holds a data URL where no image belongs; leave it out", param=path)
    if isinstance(value, list):
        for index, one in enumerate(value):
            inert(one, f"{path}[{index}]")
    if isinstance(value, dict):
        for key, one in value.items():
            inert(key, path)
            inert(one, f"{path}[{shown(key)}]")


def opaque(value: Any, path: str) -> None:
    """A string that only passes through, and is no data URL."""
    text(value, path)
    inert(value, path)


def label(value: Any, path: str) -> None:
    """A name, an identifier: a short string that is no data URL."""
    opaque(value, path)
    if len(value) > MAX_LABEL:
        raise BadRequest(f"{path} has {len(value)} characters; up to {MAX_LABEL} are taken", param=path)


def number(low: float = -1e9, high: float = 1e9) -> Check:
    """A number within bounds."""

    def check(value: Any, path: str) -> None:
        if type(value) not in (int, float) or not low <= value <= high:
            raise wrong(path, f"a number from {low:g} to {high:g}", value)

    return check


def integer(low: int, high: int) -> Check:
    """A whole number within bounds."""

    def check(value: Any, path: str) -> None:
        if type(value) is not int or not low <= value <= high:
            raise wrong(path, f"a whole number from {low} to {high}", value)

    return check


def one_of(*values: str) -> Check:
    """One of a few strings."""

    def check(value: Any, path: str) -> None:
        if type(value) is not str or value not in values:
            raise wrong(path, f"one of {', '.join(values)}", value)

    return check


def only(expected: bool | None) -> Check:
    """The one value that changes nothing, which clients send along."""

    def check(value: Any, path: str) -> None:
        if value is not expected:
            raise wrong(path, "null" if expected is None else str(expected).lower(), value)

    return check


def nullable(check: Check) -> Check:
    """Null, or a value of the shape."""
    return lambda value, path: None if value is None else check(value, path)


def either(first: type, check: Check, other: Check) -> Check:
    """A value of the JSON type `first` by one check, any other by the other."""
    return lambda value, path: (check if type(value) is first else other)(value, path)


def many(check: Check, most: int = MAX_ITEMS) -> Check:
    """A list."""

    def check_all(value: Any, path: str) -> None:
        if type(value) is not list or len(value) > most:
            raise wrong(path, f"a list of up to {most}", value)
        for index, one in enumerate(value):
            check(one, f"{path}[{index}]")

    return check_all


def mapping(check: Check, most: int) -> Check:
    """An object with any keys."""

    def check_all(value: Any, path: str) -> None:
        if type(value) is not dict or len(value) > most:
            raise wrong(path, f"an object of up to {most} keys", value)
        for key, one in value.items():
            check(one, f"{path}[{shown(key)}]")

    return check_all


def record(fields: Mapping[str, Check], needed: tuple[str, ...] = ()) -> Check:
    """An object with these fields and no others."""

    def check(value: Any, path: str) -> None:
        if type(value) is not dict:
            raise wrong(path, "an object", value)
        for key, one in value.items():
            if key not in fields:
                raise UnknownField(
                    f"{path or 'the body'} has the field {shown(key)}, which is not passed on; remove it",
                    param=_joined(path, key) if key.isidentifier() and len(key) <= 64 else path or None,
                )
            fields[key](one, _joined(path, key))
        for key in needed:
            if key not in value:
                raise BadRequest(f"{path or 'the body'} needs the field {key}", param=path or key)

    return check


def tagged(tag: str, kinds: Mapping[str, Check], default: str | None = None) -> Check:
    """An object whose field `tag` names its kind; `default` is the kind where it has no tag."""

    def check(value: Any, path: str) -> None:
        if type(value) is not dict:
            raise wrong(path, "an object", value)
        kind = value.get(tag, default)
        if type(kind) is not str or kind not in kinds:
            found = shown(kind) if type(kind) is str else type(kind).__name__
            raise UnsupportedPart(
                f"{path}.{tag} is {found}; {', '.join(kinds)} are passed on here, and nothing else",
                param=f"{path}.{tag}",
            )
        kinds[kind](value, path)

    return check


def wrong(path: str, wanted: str, found: Any) -> BadRequest:
    """The error for a value that is not of its shape; it does not quote the value."""
    return BadRequest(f"{path or 'the body'} must be {wanted}, and is {_KINDS[type(found)]}", param=path or None)


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
