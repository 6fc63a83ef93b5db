"""The one EXIF tag that changes pixels: the orientation."""

from __future__ import annotations

import struct
from typing import Final

from PIL import Image

_ORIENTATION_TAG: Final = 0x0112
_NUMBERS: Final = {3: "H", 4: "I"}  # TIFF types SHORT and LONG

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_tags(tiff: bytes) -> dict[int, tuple[int, int, bytes]]:
    """Read the first directory of a TIFF block: {tag: (type, count, the four value bytes)}.

    A block that is cut short gives the tags that are whole; the first of two equal tags counts.
    """
    order = byte_order(tiff)
    if order is None or len(tiff) < 8:
        return {}
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    if start + 2 > len(tiff):
        return {}
    (count,) = struct.unpack_from(order + "H", tiff, start)
    whole = min(count, (len(tiff) - start - 2) // 12)
    tags: dict[int, tuple[int, int, bytes]] = {}
    for entry in range(whole):
        tag, kind, values, raw = struct.unpack_from(order + "HHI4s", tiff, start + 2 + 12 * entry)
        tags.setdefault(tag, (kind, values, raw))
    return tags


def byte_order(tiff: bytes) -> str | None:
    """The struct prefix of a TIFF block, or None for anything else."""
    return {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])


def orientation(block: bytes) -> int:
    """Read the orientation of an EXIF block, with or without its "Exif" prefix; 1 where there is none.

    Values other than 1 to 8 and damaged blocks mean 1: metadata never make an image unreadable.
    """
    tiff = block.removeprefix(b"Exif\0\0")
    kind, count, raw = read_tags(tiff).get(_ORIENTATION_TAG, (0, 0, b""))
    if kind not in _NUMBERS or count != 1:
        return 1
    (value,) = struct.unpack_from(f"{byte_order(tiff)}{_NUMBERS[kind]}", raw)
    return value if 1 <= value <= 8 else 1


def turned_size(size: tuple[int, int], value: int) -> tuple[int, int]:
    """The (width, height) that an orientation gives to an image."""
    width, height = size
    return (height, width) if value >= 5 else (width, height)


def turn(image: Image.Image, value: int) -> Image.Image:
    """Turn an image upright."""
    return image if value == 1 else image.transpose(_TURNS[value])
