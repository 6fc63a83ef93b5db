"""Small pictures of flagged images for a report, made anew from the pixels that were judged."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Iterable, Sequence

from PIL import Image

from safevlm_runtime.audit.item import Item
from safevlm_runtime.audit.row import Row
from safevlm_sdk.errors import SafeVLMError
from safevlm_sdk.raster import Raster

MOST = 60
SIDE = 128


def thumbnails_of(
    items: Iterable[Item], rows: Sequence[Row], read: Callable[[Item], bytes], decode: Callable[[bytes], Raster]
) -> dict[str, str]:
    """Data URIs by `path`, for the first `MOST` of the rows.

    What the hash hook named is never read. An image that has changed since it was judged, or cannot be read any
    more, gets no picture.

    Args:
        items: Those of the source, gone through until all are found.
        rows: Of flagged images, the most important first.
        read: Gives the bytes of an item.
        decode: Gives the canonical raster of these bytes.
    """
    wanted = {row.path: row for row in [row for row in rows if row.hook is None][:MOST]}
    found: dict[str, str] = {}
    for item in items:
        if not wanted:
            break
        row = wanted.pop(item.name, None)
        uri = None if row is None else _thumbnail(item, row, read, decode)
        if uri is not None:
            found[item.name] = uri
    return found


def _thumbnail(item: Item, row: Row, read: Callable[[Item], bytes], decode: Callable[[bytes], Raster]) -> str | None:
    try:
        data = read(item)
        if hashlib.sha256(data).hexdigest() != row.sha256:
            return None
        pixels = decode(data).frames[0].pixels
    except SafeVLMError:
        return None
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
