"""What the parent and the decoding child say to each other: JSON headers with a length, and raw bytes."""

from __future__ import annotations

import json
import struct
from typing import Any, Final

MAX_HEADER: Final = 2**16
"""Bytes of a JSON header; the parent believes no child that sends more."""

LENGTH: Final = struct.Struct(">I")


def pack(header: dict[str, Any]) -> bytes:
    """A header, with its length in front."""
    text = json.dumps(header).encode()
    return LENGTH.pack(len(text)) + text


def unpack(text: bytes) -> dict[str, Any]:
    """Read a header.

    Raises:
        ValueError: It is no JSON object.
    """
    header = json.loads(text)
    if not isinstance(header, dict):
        raise ValueError("the header is no JSON object")
    return header
