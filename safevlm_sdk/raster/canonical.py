"""The canonical raster: what is judged, and the only thing that goes on to an engine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safevlm_sdk.errors import ImageInput, OptionError
from safevlm_sdk.raster import colour, exif
from safevlm_sdk.raster.limits import Size
from safevlm_sdk.resize import resize


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One picture, decoded.

    Attributes:
        index: Its place in the file.
        pixels: uint8 RGB [H, W, 3], read-only and C-contiguous. A transparent picture is laid over white.
        sha256: `raster_digest` of the pixels.
        variants: Other readings of a picture that is not fully opaque, by name: over "black", over "grey"
            (128) and "alpha-dropped". They are judged too, and never go on.
    """

    index: int
    pixels: NDArray[np.uint8]
    sha256: str
    variants: tuple[tuple[str, NDArray[np.uint8]], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Raster:
    """A decoded image.

    Attributes:
        frames: At least one.
        format: What the bytes were: "JPEG", "PNG", "WEBP", "GIF" or "MPO"; "array" or "PIL" if they were none.
        source_size: (width, height) of the first frame, upright, before it was capped.
        source_sha256: Of the encoded bytes; None for pixels.
    """

    frames: tuple[Frame, ...]
    format: str
    source_size: Size
    source_sha256: str | None


def raster_digest(pixels: NDArray[np.uint8]) -> str:
    """The sha256 of "rgb8:{H}x{W}:" followed by the RGB bytes, in hexadecimal."""
    digest = hashlib.sha256(f"rgb8:{pixels.shape[0]}x{pixels.shape[1]}:".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def capped_size(size: Size, max_side: int | None) -> Size:
    """The (width, height) whose longer side is at most `max_side`; the shorter is rounded, to 1 at least."""
    longer = max(size)
    if max_side is None or longer <= max_side:
        return size
    width, height = (max(1, (2 * side * max_side + longer) // (2 * longer)) for side in size)
    return width, height


def capped(pixels: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """The same pixels [H, W, 3], shrunk as a raster is when the longer side exceeds `max_side`."""
    height, width = pixels.shape[:2]
    size = capped_size((width, height), max_side)
    if size == (width, height):
        return pixels
    return np.asarray(resize(Image.fromarray(pixels), size, Image.Resampling.BICUBIC))


def check_max_side(max_side: int | None) -> None:
    """Refuse a cap that leaves no picture."""
    if max_side is not None and max_side < 1:
        raise OptionError(f"max_side is {max_side}; give at least 1, or None for the full size")


def frame_from_image(index: int, image: Image.Image, orientation: int, max_side: int | None) -> Frame:
    """Make the canonical frame of an L, RGB or RGBA image.

    Capping comes before turning: the turned image is the same but for rounding, and there is less to turn.
    """

    def finish(picture: Image.Image) -> NDArray[np.uint8]:
        size = capped_size(picture.size, max_side)
        if size != picture.size:
            # Bicubic over the full support: a draft or a reduced first step can be made to show
            # something else than the picture.
            picture = resize(picture, size, Image.Resampling.BICUBIC)
        return _read_only(np.asarray(exif.turn(picture.convert("RGB"), orientation)))

    variants: tuple[tuple[str, NDArray[np.uint8]], ...] = ()
    if image.mode != "RGBA":
        pixels = finish(image)
    elif image.getchannel("A").getextrema() == (255, 255):
        pixels = finish(colour.drop_alpha(image))
    else:
        pixels = finish(colour.over(image, 255))
        variants = (
            ("black", finish(colour.over(image, 0))),
            ("grey", finish(colour.over(image, 128))),
            ("alpha-dropped", finish(colour.drop_alpha(image))),
        )
    return frame_of(index, pixels, variants)


def frame_of(
    index: int, pixels: NDArray[np.uint8], variants: tuple[tuple[str, NDArray[np.uint8]], ...] = ()
) -> Frame:
    """The frame of finished pixels."""
    return Frame(index=index, pixels=pixels, sha256=raster_digest(pixels), variants=variants)


def from_array(array: NDArray[np.uint8]) -> Frame:
    """Take trusted pixels, as from a camera, without decoding them.

    A C-contiguous array is not copied: whoever owns its memory must leave it alone while the frame lives.

    Raises:
        ImageInput: The array is not uint8 RGB [H, W, 3].
    """
    return frame_of(0, _read_only(check_array(array)))


def check_array(array: object) -> NDArray[np.uint8]:
    """Refuse anything but uint8 RGB [H, W, 3] with at least one pixel."""
    if not isinstance(array, np.ndarray):
        raise ImageInput(f"a {type(array).__name__} is no array; pass uint8 RGB pixels of shape (H, W, 3)")
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ImageInput(
            f"the array has shape {array.shape} and dtype {array.dtype}; pass uint8 RGB pixels of shape (H, W, 3)"
        )
    return array


def _read_only(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    view = np.ascontiguousarray(pixels).view(np.ndarray)
    view.flags.writeable = False
    return view
