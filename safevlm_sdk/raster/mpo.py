"""The index of an MPO file: a JPEG that is followed by further JPEG pictures (CIPA DC-007)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from safevlm_sdk.raster import exif
from safevlm_sdk.raster.container import damaged

_COUNT_TAG: Final = 0xB001
_ENTRIES_TAG: Final = 0xB002
_ENTRY_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class MpIndex:
    """How many pictures a file declares, and where those after the first begin in the file."""

    count: int
    offsets: tuple[int, ...]


def read_index(tiff: bytes, base: int) -> MpIndex | None:
    """Read an MP index whose TIFF block lies at `base` in the file; None if it names one picture only.

    Raises:
        ImageCorrupt: It cannot be read, so that the number of pictures is unknown.
    """
    order = exif.byte_order(tiff)
    tags = exif.read_tags(tiff)
    if order is None or _COUNT_TAG not in tags:
        raise damaged("JPEG", "its index of further pictures is unreadable")
    (count,) = struct.unpack(order + "I", tags[_COUNT_TAG][2])
    if count <= 1:
        return None
    _, size, raw = tags.get(_ENTRIES_TAG, (0, 0, b"\0\0\0\0"))
    (start,) = struct.unpack(order + "I", raw)
    if size < _ENTRY_BYTES * count or start + _ENTRY_BYTES * count > len(tiff):
        raise damaged("JPEG", "its index of further pictures is cut short")
    offsets = (
        base + struct.unpack_from(order + "I", tiff, start + _ENTRY_BYTES * entry + 8)[0] for entry in range(1, count)
    )
    return MpIndex(count=count, offsets=tuple(offsets))
