"""Pixels as a PNG, quickly: small pictures uncompressed, larger ones with the cheapest compression that pays."""

from __future__ import annotations

import struct
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.raster.canonical import check_array

STORED_BYTES: Final = 2**20
"""Pictures of up to so many bytes of pixels are not compressed: that costs more than sending what it saves."""

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_NO_FILTER: Final = 0
_UP: Final = 2  # each row less the row above it


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode RGB pixels [H, W, 3] as a PNG without metadata, which decodes to the same pixels bit for bit.

    Equal pixels give equal bytes.

    Raises:
        ImageInput: The pixels are not uint8 RGB [H, W, 3].
    """
    height, width = check_array(pixels).shape[:2]
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    flat = pixels.reshape(height, 3 * width)
    if pixels.nbytes <= STORED_BYTES:
        rows[:, 0], rows[:, 1:] = _NO_FILTER, flat
        data = zlib.compress(rows.data, 0)
    else:
        rows[:, 0], rows[0, 1:] = _UP, flat[0]
        np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
        # Runs alone: a search for longer matches takes twice as long and saves little behind the filter.
        packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
        data = packer.compress(rows.data) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits of RGB, not interlaced
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)
