"""Names of image formats that are not read, so that an error says what a file is."""

from __future__ import annotations

from typing import Final

_BMP_HEADERS: Final = frozenset({12, 40, 52, 56, 64, 108, 124})
"""Bytes of the header behind the file's own; the two letters alone say little."""
_TIFF: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG_XL: Final = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
_AVIF: Final = frozenset({b"avif", b"avis"})
_HEIC: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_BRANDS_END: Final = 128


def unread_format(data: bytes) -> str:
    """The format that the first bytes of a file say, of BMP, TIFF, JPEG XL, AVIF and HEIC; empty for any other."""
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if data.startswith(_TIFF):
        return "TIFF"
    if data.startswith(_JPEG_XL):
        return "JPEG XL"
    brands = _brands(data)
    if brands & _AVIF:
        return "AVIF"
    return "HEIC" if brands & _HEIC else ""


def _brands(data: bytes) -> frozenset[bytes]:
    """What an ISO base media file says that it can be read as: its own brand and the compatible ones."""
    if data[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(data[:4], "big"), len(data), _BRANDS_END)
    return frozenset(data[start : start + 4] for start in range(8, end, 4))
