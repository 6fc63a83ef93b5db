"""The protobuf wire format, read strictly and without a schema compiler."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

MAX_FIELD = 2**29 - 1


class Wire(IntEnum):
    """How a field is written."""

    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5


class WireError(ValueError):
    """The bytes are no protobuf message, or one that two readers could read differently."""


def fields(message: memoryview) -> Iterator[tuple[int, Wire, int, memoryview]]:
    """Each field of a message: (number, wire type, value of a varint, payload of length-delimited bytes).

    Raises:
        WireError: The message cannot be read to its end.
    """
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if not 1 <= number <= MAX_FIELD or kind not in (0, 1, 2, 5):
            raise WireError(f"tag {tag} is no field")
        wire, value, payload = Wire(kind), 0, message[:0]
        if wire is Wire.VARINT:
            value, at = _varint(message, at)
        else:
            size = 8 if wire is Wire.FIXED64 else 4
            if wire is Wire.BYTES:
                size, at = _varint(message, at)
            if size > end - at:
                raise WireError(f"field {number} reaches beyond the end")
            payload, at = message[at : at + size], at + size
        yield number, wire, value, payload


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for index in range(10):
        if at >= len(message):
            raise WireError("the message is cut short")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value >= 2**64:
                raise WireError("a number has more than 64 bits")
            return value, at
    raise WireError("a number has more than ten bytes")
