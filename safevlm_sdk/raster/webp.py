"""WebP: what a file holds, and its pixels."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from functools import partial
from typing import Final

from PIL import Image, WebPImagePlugin

from safevlm_sdk.raster import exif
from safevlm_sdk.raster.container import Container, damaged, truncated
from safevlm_sdk.raster.limits import Limits, Size, check_count

_ANIMATED: Final = 0x02


def is_webp(data: bytes) -> bool:
    """Whether the bytes begin as a WebP file."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def parse(data: bytes, limits: Limits) -> Container:
    """Read every chunk of a WebP file but decode none."""
    if len(data) < 20:
        raise truncated("WebP")
    (length,) = struct.unpack_from("<I", data, 4)
    end = 8 + length
    if end > len(data):
        raise truncated("WebP")
    size: Size | None = None
    frames, block, animated = 0, b"", False
    for name, content in _chunks(data[:end]):
        if size is None:
            size = _size(name, content)
            animated = name == b"VP8X" and bool(content[0] & _ANIMATED)
        elif name == b"EXIF":
            block = block or content
        elif name == b"ANMF" and animated:
            frames += 1
            check_count(frames, limits)
    if size is None or (animated and not frames):
        raise damaged("WebP", "it has no picture")
    count = frames if animated else 1
    return Container(
        format="WEBP",
        sizes=(size,) * count,
        orientations=(exif.orientation(block),) * count,
        images=partial(_decode, data[:end], size, count),
    )


def _decode(data: bytes, size: Size, count: int) -> Iterator[Image.Image]:
    # Straight to the one plugin: `Image.open` would warn by a limit that is global to the process.
    with WebPImagePlugin.WebPImageFile(io.BytesIO(data)) as image:
        if image.size != size or image.n_frames != count:
            raise damaged("WebP", "its header and its pictures disagree")
        for index in range(count):
            image.seek(index)
            image.load()
            yield image


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at < len(data):
        if at + 8 > len(data):
            raise truncated("WebP")
        name, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > len(data):
            raise truncated("WebP")
        yield name, data[at + 8 : at + 8 + length]
        at += 8 + length + (length & 1)


def _size(name: bytes, content: bytes) -> Size:
    """The canvas that the first chunk declares."""
    if name == b"VP8X" and len(content) >= 10:
        width, height = content[4:7], content[7:10]
        return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
    if name == b"VP8 " and content[3:6] == b"\x9d\x01\x2a" and len(content) >= 10:
        across, down = struct.unpack_from("<HH", content, 6)
        return across & 0x3FFF, down & 0x3FFF
    if name == b"VP8L" and content[:1] == b"\x2f" and len(content) >= 5:
        (bits,) = struct.unpack_from("<I", content, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise damaged("WebP", "it does not begin with a picture header")
