"""GIF: what a file holds, and its pixels."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from PIL import Image

from safevlm_sdk.raster import canvas, colour
from safevlm_sdk.raster.container import Container, damaged, truncated
from safevlm_sdk.raster.limits import Limits, Size, check_count

SIGNATURES: Final = (b"GIF87a", b"GIF89a")

_GREYS: Final = bytes(level for level in range(256) for _ in range(3))
_DISPOSE: Final = {2: canvas.Dispose.CLEAR, 3: canvas.Dispose.RESTORE}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Control:
    """What a graphic control block says about the image that follows it."""

    transparent: int | None = None
    dispose: canvas.Dispose = canvas.Dispose.KEEP


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picture:
    box: tuple[int, int, int, int]
    palette: bytes
    interlaced: bool
    control: _Control
    code_bits: int
    start: int
    end: int


def parse(data: bytes, limits: Limits) -> Container:
    """Read every block of a GIF file but decode none.

    The canvas is the declared screen, widened where a frame reaches beyond it, so that no pixel is lost.
    """
    screen, pictures = _read_file(data, limits)
    size = (
        max(screen[0], *(picture.box[2] for picture in pictures)),
        max(screen[1], *(picture.box[3] for picture in pictures)),
    )
    return Container(
        format="GIF",
        sizes=(size,) * len(pictures),
        orientations=(1,) * len(pictures),
        images=partial(_decode, data, size, pictures),
    )


def _decode(data: bytes, size: Size, pictures: list[_Picture]) -> Iterator[Image.Image]:
    patches = (
        canvas.Patch(image=_pixels(data, picture), at=picture.box[:2], over=True, dispose=picture.control.dispose)
        for picture in pictures
    )
    return canvas.compose(size, patches)


def _pixels(data: bytes, picture: _Picture) -> Image.Image:
    left, top, right, bottom = picture.box
    image = Image.frombytes(
        "P",
        (right - left, bottom - top),
        data[picture.start : picture.end],
        "gif",
        picture.code_bits,
        int(picture.interlaced),
        -1,  # transparency is resolved here, by the palette
    )
    hidden = picture.control.transparent
    alphas = b"" if hidden is None else b"\xff" * hidden + b"\0"
    return colour.from_palette(image, picture.palette, alphas)


def _read_file(data: bytes, limits: Limits) -> tuple[Size, list[_Picture]]:
    width, height, flags = struct.unpack_from("<HHB", _take(data, 0, 13), 6)
    shared, at = _palette(data, 13, flags)
    control = _Control()
    pictures: list[_Picture] = []
    while True:
        introducer = _take(data, at, 1)
        if introducer == b";":
            break
        if introducer == b",":
            picture = _read_picture(data, at + 1, shared, control)
            pictures.append(picture)
            check_count(len(pictures), limits)
            control, at = _Control(), picture.end
        elif introducer == b"!":
            label = _take(data, at + 1, 1)
            if label == b"\xf9":
                control = _read_control(data, at + 2)
            at = _end_of_blocks(data, at + 2)
        else:
            raise damaged("GIF", "a block is of no known kind")
    if not pictures:
        raise damaged("GIF", "it has no picture")
    return (width, height), pictures


def _read_picture(data: bytes, at: int, shared: bytes, control: _Control) -> _Picture:
    left, top, width, height, flags = struct.unpack("<4HB", _take(data, at, 9))
    if not width or not height:
        raise damaged("GIF", "a frame has no pixels")
    own, at = _palette(data, at + 9, flags)
    (code_bits,) = _take(data, at, 1)
    if not 1 <= code_bits <= 11:
        raise damaged("GIF", "a frame is packed in an unknown way")
    return _Picture(
        box=(left, top, left + width, top + height),
        palette=own or shared or _GREYS,
        interlaced=bool(flags & 64),
        control=control,
        code_bits=code_bits,
        start=at + 1,
        end=_end_of_blocks(data, at + 1),
    )


def _read_control(data: bytes, at: int) -> _Control:
    length, flags, _, hidden = struct.unpack("<BBHB", _take(data, at, 5))
    if length != 4:
        raise damaged("GIF", "a graphic control block has a wrong length")
    return _Control(
        transparent=hidden if flags & 1 else None,
        dispose=_DISPOSE.get(flags >> 2 & 7, canvas.Dispose.KEEP),
    )


def _palette(data: bytes, at: int, flags: int) -> tuple[bytes, int]:
    if not flags & 128:
        return b"", at
    length = 3 << ((flags & 7) + 1)
    return _take(data, at, length), at + length


def _end_of_blocks(data: bytes, at: int) -> int:
    """The position behind a chain of sub-blocks."""
    try:
        while data[at]:
            at += data[at] + 1
    except IndexError as error:
        raise truncated("GIF") from error
    return at + 1


def _take(data: bytes, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise truncated("GIF")
    return data[at : at + length]
