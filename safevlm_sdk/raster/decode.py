"""From untrusted bytes to canonical frames, in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image

from safevlm_sdk.errors import ImageCorrupt, ImageFormat, ImageTooManyPixels, SafeVLMError
from safevlm_sdk.raster import exif, gif, jpeg, pil_image, png, webp
from safevlm_sdk.raster.canonical import (
    Frame,
    Raster,
    check_array,
    check_max_side,
    frame_from_image,
)
from safevlm_sdk.raster.container import Container
from safevlm_sdk.raster.limits import DEFAULT_LIMITS, Limits, Size, check_sizes
from safevlm_sdk.raster.source import ImageSource, read_source
from safevlm_sdk.raster.unread import unread_format


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opened:
    """An image that passed every check of its header; iterating `frames` decodes it."""

    format: str
    source_size: Size
    count: int
    frames: Iterator[Frame]


def decode(source: ImageSource, *, limits: Limits = DEFAULT_LIMITS, max_side: int | None = None) -> Raster:
    """Decode an image into canonical RGB frames.

    What a file is, is told by its first bytes. Its size and the number of its frames are checked before
    any pixel is decoded, its structure is walked to the end, and only its pixels reach a decoder. The EXIF
    orientation is applied; profiles, gamma and all other metadata are dropped. What follows the end of the
    image is ignored. Equal bytes give equal frames, whatever flags other code has set in Pillow; its
    `MAX_IMAGE_PIXELS`, if smaller than a WebP image within `limits`, refuses that image.

    Args:
        source: A path, encoded bytes, a binary file, a PIL image or uint8 RGB pixels [H, W, 3].
        limits: What is refused.
        max_side: Longer side of the frames, in pixels: larger ones are shrunk (antialiased bicubic),
            smaller ones are left alone.

    Raises:
        ImageError: The image cannot be judged; each reason has its own class.
    """
    taken = read_source(source, limits)
    digest = hashlib.sha256(taken).hexdigest() if isinstance(taken, bytes) else None
    with boundary():
        opened = open_source(taken, limits, max_side)
        frames = tuple(opened.frames)
    return Raster(frames=frames, format=opened.format, source_size=opened.source_size, source_sha256=digest)


def open_source(taken: bytes | Image.Image | np.ndarray, limits: Limits, max_side: int | None) -> Opened:
    """Check everything that can be checked without decoding; call it and iterate within `boundary`."""
    check_max_side(max_side)
    container = _parse(taken, limits)
    check_sizes(container.sizes, limits)
    return Opened(
        format=container.format,
        source_size=exif.turned_size(container.sizes[0], container.orientations[0]),
        count=len(container.sizes),
        frames=_frames(container, max_side),
    )


@contextmanager
def boundary() -> Iterator[None]:
    """Give every failure of a decoder, of whatever type, the name of an image error."""
    try:
        yield
    except SafeVLMError:
        raise
    except (MemoryError, Image.DecompressionBombError) as error:
        raise ImageTooManyPixels(
            f"the image does not fit ({type(error).__name__}); raise this process's memory limit "
            "or Pillow's MAX_IMAGE_PIXELS, or resize the image"
        ) from error
    except Exception as error:
        raise ImageCorrupt(
            f"the image could not be decoded ({type(error).__name__}); it is cut short or damaged: save it anew"
        ) from error


def _parse(taken: bytes | Image.Image | np.ndarray, limits: Limits) -> Container:
    if isinstance(taken, Image.Image):
        return pil_image.parse(taken, limits)
    if isinstance(taken, np.ndarray):
        pixels = check_array(taken)
        return Container(
            format="array",
            sizes=((pixels.shape[1], pixels.shape[0]),),
            orientations=(1,),
            images=lambda: iter((Image.fromarray(pixels),)),
        )
    name = _sniff(taken)
    if name not in limits.formats:
        raise _not_read(name or unread_format(taken), limits)
    return {"JPEG": jpeg.parse, "PNG": png.parse, "GIF": gif.parse, "WEBP": webp.parse}[name](taken, limits)


def _not_read(name: str, limits: Limits) -> ImageFormat:
    read = " or ".join(filter(None, (", ".join(limits.formats[:-1]), *limits.formats[-1:])))
    found = f"{name} is not read" if name else "the bytes are of no known image format"
    return ImageFormat(f"{found}; convert the image to {read}")


def _sniff(data: bytes) -> str:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(png.SIGNATURE):
        return "PNG"
    if data.startswith(gif.SIGNATURES):
        return "GIF"
    return "WEBP" if webp.is_webp(data) else ""


def _frames(container: Container, max_side: int | None) -> Iterator[Frame]:
    for index, (image, orientation) in enumerate(zip(container.images(), container.orientations, strict=True)):
        yield frame_from_image(index, image, orientation, max_side)
