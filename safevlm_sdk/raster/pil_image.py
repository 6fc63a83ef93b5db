"""PIL images as input: decoded by the caller, or about to be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import numpy as np
from PIL import Image

from safevlm_sdk.errors import ImageFormat, ImageInput, ImageMultiFrame
from safevlm_sdk.raster import colour, exif
from safevlm_sdk.raster.container import Container
from safevlm_sdk.raster.limits import Limits, check_count

_STANDING = threading.Lock()


def parse(image: Image.Image, limits: Limits) -> Container:
    """Look at a PIL image without loading it.

    An image that Pillow has opened but not loaded is decoded by Pillow, under the flags that the process
    has set: only encoded bytes and paths get the strict reading. Frames are judged all or not at all,
    wherever the image stands, and it is left standing there.

    Raises:
        ImageFormat: It was opened from a format that is not on the allow-list.
        ImageMultiFrame: It has more frames than are judged.
    """
    container = getattr(image, "format", None)
    if container is not None and container not in (*limits.formats, "MPO"):
        raise ImageFormat(
            f"the PIL image was opened from {container}; {', '.join(limits.formats)} are read: "
            "pass image.copy() if its decoder is trusted"
        )
    count = int(getattr(image, "n_frames", 1))
    if container == "MPO" and count > 1:
        if "JPEG" not in limits.formats or limits.mpo == "refuse" or count > limits.max_frames:
            raise ImageMultiFrame(
                f"the PIL image is an MPO with {count} pictures; pass a copy of the one that is meant"
            )
    else:
        check_count(count, limits)
    block = image.info.get("exif", b"")
    value = exif.orientation(block) if isinstance(block, bytes) else 1
    return Container(
        format="PIL",
        sizes=(image.size,) * count,
        orientations=(value,) * count,
        images=partial(_decode, image, count),
    )


def _decode(image: Image.Image, count: int) -> Iterator[Image.Image]:
    if count == 1:
        with _STANDING:
            picture = _plain(image)
        yield picture
        return
    for index in range(count):
        # A PIL image stands at one frame for all its users: two threads must not move it at once.
        with _STANDING:
            standing = image.tell()
            try:
                image.seek(index)
                picture = _plain(image)
            finally:
                image.seek(standing)
        yield picture


def _plain(image: Image.Image) -> Image.Image:
    """A copy in L, RGB or RGBA; the caller's image is loaded but not changed."""
    image.load()
    declared = image.size
    key = image.info.get("transparency")
    if image.mode == "I" and image.format == "PNG":
        copy = colour.scale_16_bit(np.asarray(image))
    elif image.mode == "P":
        copy = image.convert("RGBA")
    elif key is None:
        copy = colour.plain(image.copy())
    elif image.mode.startswith("I;16") and isinstance(key, int):
        copy = colour.with_grey_key(image, key, 16)
    elif image.mode in ("1", "L", "RGB"):
        copy = image.convert("RGBA")
    else:
        copy = colour.plain(image.copy())
    if copy.size != declared:
        raise ImageInput("the PIL image changed its size while it was read; pass a copy")
    return copy
