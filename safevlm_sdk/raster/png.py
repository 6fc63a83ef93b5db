"""PNG and APNG: what a file holds, and its pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from PIL import Image

from safevlm_sdk.raster import canvas, colour, exif
from safevlm_sdk.raster.container import Container, damaged, truncated
from safevlm_sdk.raster.limits import Limits, Size, check_count

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"

_MODES: Final = {
    # (bit depth, colour type): (Pillow mode, raw mode of the decoder)
    (1, 0): ("1", "1"),
    (2, 0): ("L", "L;2"),
    (4, 0): ("L", "L;4"),
    (8, 0): ("L", "L"),
    (16, 0): ("I;16", "I;16B"),
    (8, 2): ("RGB", "RGB"),
    (16, 2): ("RGB", "RGB;16B"),
    (1, 3): ("P", "P;1"),
    (2, 3): ("P", "P;2"),
    (4, 3): ("P", "P;4"),
    (8, 3): ("P", "P"),
    (8, 4): ("LA", "LA"),
    (16, 4): ("RGBA", "LA;16B"),
    (8, 6): ("RGBA", "RGBA"),
    (16, 6): ("RGBA", "RGBA;16B"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    size: Size
    depth: int
    colour_type: int
    interlaced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Patch:
    """One animation frame: the rectangle of the canvas that its data paint, and how."""

    box: tuple[int, int, int, int]
    dispose: canvas.Dispose
    over: bool
    data: list[bytes] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class _File:
    header: _Header
    palette: bytes = b""
    key: bytes | None = None
    exif: bytes = b""
    still: list[bytes] = field(default_factory=list)
    declared: int | None = None
    patches: list[_Patch] = field(default_factory=list)
    sequence: int = 0


def parse(data: bytes, limits: Limits) -> Container:
    """Read every chunk of a PNG file but inflate none."""
    file = _read_file(data, limits)
    if file.declared is None:
        count = 1
    else:
        if file.declared != len(file.patches) or not all(patch.data for patch in file.patches):
            raise damaged("PNG", "it announces other animation frames than it has")
        # A picture before the first frame is not part of the animation, but some viewers show it.
        count = file.declared + bool(file.still)
    value = exif.orientation(file.exif)
    return Container(
        format="PNG",
        sizes=(file.header.size,) * count,
        orientations=(value,) * count,
        images=partial(_decode, file),
    )


def _decode(file: _File) -> Iterator[Image.Image]:
    if file.still:
        yield _pixels(file, file.header.size, file.still)
    patches = (
        canvas.Patch(
            image=_pixels(file, (patch.box[2] - patch.box[0], patch.box[3] - patch.box[1]), patch.data),
            at=patch.box[:2],
            over=patch.over,
            dispose=patch.dispose,
        )
        for patch in file.patches
    )
    yield from canvas.compose(file.header.size, patches)


def _pixels(file: _File, size: Size, data: list[bytes]) -> Image.Image:
    header = file.header
    mode, raw_mode = _MODES[header.depth, header.colour_type]
    image = Image.frombytes(mode, size, b"".join(data), "zip", raw_mode, int(header.interlaced))
    if mode == "P":
        return colour.from_palette(image, file.palette, file.key or b"")
    if file.key is None or header.colour_type not in (0, 2):
        return colour.plain(image)
    samples = struct.unpack(f">{len(file.key) // 2}H", file.key)
    if header.colour_type == 0:
        return colour.with_grey_key(image, samples[0] & (2**header.depth - 1), header.depth)
    # 16-bit colours are judged by their high bytes, and so is the transparent one among them.
    shift = header.depth - 8
    return colour.with_colour_key(image, tuple((sample >> shift) & 255 for sample in samples))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (name, content) of each chunk up to the end chunk, which must come."""
    at, name = len(SIGNATURE), b""
    while name != b"IEND":
        if at + 12 > len(data):
            raise truncated("PNG")
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise truncated("PNG")
        content = data[at + 8 : end - 4]
        if zlib.crc32(content, zlib.crc32(name)) != struct.unpack_from(">I", data, end - 4)[0]:
            raise damaged("PNG", "the checksum of a chunk is wrong")
        yield name, content
        at = end


def _read_file(data: bytes, limits: Limits) -> _File:
    chunks = _chunks(data)
    name, content = next(chunks)
    if name != b"IHDR":
        raise damaged("PNG", "it does not begin with a header")
    file = _File(header=_read_header(content))
    previous = name
    for name, content in chunks:
        if name == b"IDAT" and file.still and previous != name:
            raise damaged("PNG", "its pixel data are interrupted")
        _take_chunk(file, name, content, limits)
        previous = name
    if not file.still and not any(patch.data for patch in file.patches):
        raise damaged("PNG", "it has no pixel data")
    if file.header.colour_type == 3 and not file.palette:
        raise damaged("PNG", "it has no palette")
    return file


def _take_chunk(file: _File, name: bytes, content: bytes, limits: Limits) -> None:
    if name == b"IDAT":
        _target(file).append(content)
    elif name == b"PLTE":
        if file.palette or not content or len(content) > 768 or len(content) % 3:
            raise damaged("PNG", "its palette has a wrong length or comes twice")
        file.palette = content
    elif name == b"tRNS":
        _read_key(file, content)
    elif name == b"eXIf":
        file.exif = file.exif or content
    elif name in (b"acTL", b"fcTL", b"fdAT"):
        _read_animation(file, name, content, limits)
    elif not name[0] & 32 and name != b"IEND":
        raise damaged("PNG", "it needs an extension that is not read here")


def _target(file: _File) -> list[bytes]:
    """Where pixel data of the main picture belong: to the first frame, if one was announced before."""
    return file.patches[0].data if file.patches else file.still


def _read_header(content: bytes) -> _Header:
    if len(content) != 13:
        raise damaged("PNG", "its header has a wrong length")
    width, height, depth, colour_type, compression, filtering, interlace = struct.unpack(">IIBBBBB", content)
    if (depth, colour_type) not in _MODES or compression or filtering or interlace > 1:
        raise damaged("PNG", "its header names an encoding that PNG does not have")
    return _Header(size=(width, height), depth=depth, colour_type=colour_type, interlaced=interlace == 1)


def _read_key(file: _File, content: bytes) -> None:
    wanted = {0: 2, 2: 6}.get(file.header.colour_type)
    if file.key is not None or (wanted is not None and len(content) != wanted) or len(content) > 256:
        raise damaged("PNG", "its transparency has a wrong length or comes twice")
    file.key = content


def _read_animation(file: _File, name: bytes, content: bytes, limits: Limits) -> None:
    """Take in one APNG chunk; without an announcement before the pixels they mean nothing."""
    if name == b"acTL":
        if file.declared is not None or len(content) != 8:
            raise damaged("PNG", "its animation is announced twice or wrongly")
        if not file.still:
            (file.declared,) = struct.unpack_from(">I", content)
            if not file.declared:
                raise damaged("PNG", "its animation is announced twice or wrongly")
            check_count(file.declared, limits)
        return
    if file.declared is None:
        return
    if len(content) < 4 or struct.unpack_from(">I", content)[0] != file.sequence:
        raise damaged("PNG", "its animation frames are out of order")
    file.sequence += 1
    if name == b"fcTL":
        file.patches.append(_read_patch(content, file.header.size))
        check_count(len(file.patches) + bool(file.still), limits)
    elif not file.patches:
        raise damaged("PNG", "its animation frames are out of order")
    else:
        file.patches[-1].data.append(content[4:])


def _read_patch(content: bytes, size: Size) -> _Patch:
    if len(content) != 26:
        raise damaged("PNG", "an animation frame has a wrong header")
    width, height, left, top = struct.unpack_from(">4I", content, 4)
    dispose, blend = content[24:]
    if not (0 < width <= size[0] - left and 0 < height <= size[1] - top) or dispose > 2 or blend > 1:
        raise damaged("PNG", "an animation frame lies outside its picture or is drawn in an unknown way")
    return _Patch(
        box=(left, top, left + width, top + height),
        dispose=canvas.Dispose(dispose),
        over=blend == 1,
    )
