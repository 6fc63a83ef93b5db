"""What the header of an encoded image says, before any pixel is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image

from safevlm_sdk.errors import ImageCorrupt
from safevlm_sdk.raster.limits import Size


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Container:
    """A parsed file whose pixels are still encoded.

    Attributes:
        format: The container, such as "PNG".
        sizes: (width, height) of each frame, before orientation.
        orientations: The EXIF orientation of each frame, 1 to 8.
        images: Decodes the frames one after the other, each of mode L, RGB or RGBA. An image may
            be drawn over once the next one is asked for.
    """

    format: str
    sizes: tuple[Size, ...]
    orientations: tuple[int, ...]
    images: Callable[[], Iterator[Image.Image]]


def truncated(what: str) -> ImageCorrupt:
    """The error for a file that ends before its image does."""
    return ImageCorrupt(f"the {what} file ends before its image does; send the whole file")


def damaged(what: str, found: str) -> ImageCorrupt:
    """The error for a file that contradicts its format."""
    return ImageCorrupt(f"the {what} file is damaged: {found}; save the image anew")
