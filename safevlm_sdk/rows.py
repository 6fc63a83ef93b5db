"""One line of a JSON lines file that names an image."""

from __future__ import annotations

import json
from typing import Any, Literal, TypeVar

import msgspec

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif")


class ImageRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One line; `meta` holds whatever its writer wants to keep and is not read.

    Attributes:
        image: Path of the image, relative to the file.
        category: A risk or `safe`.
        level: 0 to 3, or its name.
        group: Images of one group are not independent.
        source: A name within the file's source.
        split: Where the row belongs in training.
        meta: Anything.
    """

    image: str
    category: str | None = None
    level: int | str | None = None
    group: str | None = None
    source: str | None = None
    split: Literal["train", "validation", "calibration"] | None = None
    meta: dict[str, Any] = {}


Row = TypeVar("Row", bound=ImageRow)


def parse_row(line: bytes, kind: type[Row]) -> Row:
    """Reads one line strictly.

    Raises:
        ValueError, RecursionError, msgspec.MsgspecError: It is no such row; a key that appears twice is none either.
    """
    return msgspec.convert(json.loads(line.decode("utf-8"), object_pairs_hook=_unique), kind, strict=True)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found
