"""JPEG: what a file holds, and its pixels.

The file is taken apart by our own walk over its markers, and the decoder gets back only the parts
that carry pixels: metadata never reach it.

A file that was cut and closed with an end marker decodes without complaint: libjpeg paints what is
missing in grey. For sequential images in one scan (nearly all that cameras write) this is found out:
the end marker is replaced by eight bytes of one-bits, which are enough for the decoder's look-ahead
but encode nothing, so that an image that is complete decodes as ever and one that lacks more than
its last bytes runs dry. For images in several scans (progressive ones) every coefficient must have
been sent to its last bit, so that a missing scan is found; data missing *within* a scan, and changed
bits in any file, are not. There the decoder's reading is what is judged and what goes on.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from PIL import Image

from safevlm_sdk.errors import ImageFormat, ImageMode, ImageMultiFrame
from safevlm_sdk.raster import exif
from safevlm_sdk.raster.container import Container, damaged, truncated
from safevlm_sdk.raster.jpeg_scans import Scan, check_scans, read_scan
from safevlm_sdk.raster.limits import Limits, Size
from safevlm_sdk.raster.mpo import MpIndex, read_index

_START: Final = b"\xff\xd8"
_END: Final = b"\xff\xd9"
_LOOK_AHEAD: Final = b"\xff\x00" * 8
_AFTER_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_NEXT_MARKER: Final = re.compile(rb"\xff[^\x00\xff]")
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
_SOF: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_PROCESSES: Final = {0xC0: "sequential", 0xC1: "sequential", 0xC2: "progressive"}
_TABLES: Final = frozenset({0xC4, 0xDB, 0xDD})
_MODES: Final = {1: ("L", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK;I")}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    size: Size
    components: tuple[int, ...]
    progressive: bool


@dataclass(slots=True, kw_only=True)
class _Metadata:
    """What of the metadata matters; the first of two equal segments counts."""

    exif: bytes = b""
    index: MpIndex | None = None
    gain_map: bool = False

    def take(self, marker: int, at: int, payload: bytes) -> None:
        """Take in one segment whose payload lies at `at` in the file."""
        if marker == 0xE1 and payload.startswith(b"Exif\0\0"):
            self.exif = self.exif or payload
        elif marker == 0xE1 and b' hdrgm:Version="' in payload:
            self.gain_map = True
        elif marker == 0xE2 and payload.startswith(b"MPF\0"):
            self.index = self.index or read_index(payload[4:], at + 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picture:
    size: Size
    orientation: int
    index: MpIndex | None
    mode: str
    raw_mode: str
    stream: bytes


def parse(data: bytes, limits: Limits) -> Container:
    """Read the header and the marker structure of a JPEG or MPO file."""
    first = _read_picture(data, 0)
    pictures = [first]
    if first.index is not None:
        if limits.mpo == "refuse":
            raise ImageMultiFrame(
                f"the JPEG file is an MPO with {first.index.count} pictures; "
                "send the one that is meant, or set mpo = 'judge'"
            )
        if first.index.count > limits.max_frames:
            raise ImageMultiFrame(
                f"the MPO file has {first.index.count} pictures; up to {limits.max_frames} are judged: send fewer"
            )
        # What an index inside a later picture says counts for nothing: the first one lists them all.
        pictures += [_read_picture(data, offset) for offset in first.index.offsets]
    return Container(
        format="JPEG" if first.index is None else "MPO",
        sizes=tuple(picture.size for picture in pictures),
        orientations=tuple(picture.orientation for picture in pictures),
        images=partial(_decode, pictures),
    )


def _decode(pictures: list[_Picture]) -> Iterator[Image.Image]:
    for picture in pictures:
        image = Image.frombytes(picture.mode, picture.size, picture.stream, "jpeg", picture.raw_mode, "")
        yield image.convert("RGB") if picture.mode == "CMYK" else image


def _segments(data: bytes, start: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield (marker, position of the payload, payload) up to the end marker, which must come."""
    if data[start : start + 2] != _START:
        raise damaged("JPEG", "no picture begins where one should")
    at, after_scan = start + 2, False
    while True:
        found = (_AFTER_SCAN if after_scan else _NEXT_MARKER).search(data, at)
        if found is None:
            raise truncated("JPEG")
        marker, at, after_scan = data[found.end() - 1], found.end(), False
        if marker == _END[1]:
            return
        if marker in _ALONE:
            continue
        if marker == _START[1]:
            raise damaged("JPEG", "a picture begins inside a picture")
        if at + 2 > len(data):
            raise truncated("JPEG")
        (length,) = struct.unpack_from(">H", data, at)
        if length < 2:
            raise damaged("JPEG", "a segment is shorter than its own length field")
        if at + length > len(data):
            raise truncated("JPEG")
        yield marker, at + 2, data[at + 2 : at + length]
        at += length
        after_scan = marker == 0xDA


def _read_picture(data: bytes, start: int) -> _Picture:
    kept, metadata = [_START], _Metadata()
    frame: _Frame | None = None
    scans: list[Scan] = []
    for marker, at, payload in _segments(data, start):
        segment = data[at - 4 : at + len(payload)]
        if marker in _SOF:
            if frame is not None:
                raise damaged("JPEG", "it declares its size twice")
            frame = _read_frame(marker, payload)
            kept.append(segment)
        elif marker == 0xDA:
            scans.append(read_scan(payload))
            kept += [segment, _entropy(data, at + len(payload))]
            if frame is not None and _in_one_scan(frame, scans[0]):
                break
        elif marker in _TABLES or _says_colour(marker, payload):
            kept.append(segment)
        else:
            metadata.take(marker, at, payload)
    if frame is None or not scans:
        raise damaged("JPEG", "it has no picture")
    check_scans(scans, frame.components, progressive=frame.progressive)
    kept.append(_LOOK_AHEAD if _in_one_scan(frame, scans[0]) else _END)
    mode, raw_mode = _MODES[len(frame.components)]
    return _Picture(
        size=frame.size,
        orientation=exif.orientation(metadata.exif),
        # The second picture of an Ultra HDR file is a brightness map, not something to look at.
        index=None if metadata.gain_map else metadata.index,
        mode=mode,
        raw_mode=raw_mode,
        stream=b"".join(kept),
    )


def _read_frame(marker: int, payload: bytes) -> _Frame:
    if marker not in _PROCESSES:
        raise ImageFormat(
            f"the JPEG file uses process {marker - 0xC0} (lossless, hierarchical or arithmetic); "
            "save it as a baseline or progressive JPEG"
        )
    if len(payload) < 6 or len(payload) != 6 + 3 * payload[5]:
        raise damaged("JPEG", "its frame header has a wrong length")
    precision, height, width, count = struct.unpack_from(">BHHB", payload)
    if precision != 8 or count not in _MODES:
        raise ImageMode(
            f"the JPEG file has {count} components of {precision} bits; 1, 3 or 4 of 8 bits are read: "
            "save it as an RGB image"
        )
    return _Frame(
        size=(width, height),
        components=tuple(payload[6::3]),
        progressive=_PROCESSES[marker] == "progressive",
    )


def _entropy(data: bytes, at: int) -> bytes:
    end = _AFTER_SCAN.search(data, at)
    if end is None:
        raise truncated("JPEG")
    return data[at : end.start()].rstrip(b"\xff")


def _in_one_scan(frame: _Frame, scan: Scan) -> bool:
    return not frame.progressive and len(scan.components) == len(frame.components)


def _says_colour(marker: int, payload: bytes) -> bool:
    """Whether a segment tells the decoder what its components mean."""
    return (marker == 0xE0 and payload.startswith(b"JFIF\0")) or (marker == 0xEE and payload.startswith(b"Adobe"))
