"""From the modes of files to L, RGB and RGBA with 8 bits per channel.

ICC profiles and gamma are not applied: the numbers in the file are what is judged and what goes on.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safevlm_sdk.errors import ImageMode

_BY_CONVERSION: Final = {
    "1": "L",
    "La": "RGBA",
    "LA": "RGBA",
    "PA": "RGBA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "CMYK": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
}
_SIXTEEN_BIT: Final = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})


def plain(image: Image.Image) -> Image.Image:
    """Bring an image without a colour key to L, RGB or RGBA.

    Raises:
        ImageMode: Its mode has no unambiguous reading: 32-bit integers, floats, Lab.
    """
    if image.mode in ("L", "RGB", "RGBA"):
        return image
    if image.mode in _BY_CONVERSION:
        target = _BY_CONVERSION[image.mode]
        return (image.convert("LA") if image.mode == "La" else image).convert(target)
    if image.mode in _SIXTEEN_BIT:
        return scale_16_bit(np.asarray(image))
    raise ImageMode(
        f"the image has mode {image.mode}, whose numbers have no fixed black and white; "
        "convert it to 8-bit RGB yourself"
    )


def scale_16_bit(levels: NDArray[np.generic]) -> Image.Image:
    """Scale 16-bit levels [H, W] to 8 bits by the whole range: round(v * 255 / 65535)."""
    table = ((np.arange(65536, dtype=np.uint32) + 128) // 257).astype(np.uint8)
    return Image.fromarray(table[levels.astype(np.uint16)])


def from_palette(image: Image.Image, palette: bytes, alphas: bytes) -> Image.Image:
    """Look up a P image in a palette of RGB bytes; `alphas` are those of its first entries, others are 255.

    Entries that the palette lacks are black.
    """
    entries = np.zeros((256, 4), dtype=np.uint8)
    entries[:, 3] = 255
    colours = np.frombuffer(palette, dtype=np.uint8).reshape(-1, 3)
    entries[: len(colours), :3] = colours
    entries[: len(alphas), 3] = np.frombuffer(alphas, dtype=np.uint8)
    if alphas.strip(b"\xff"):
        image.putpalette(entries.tobytes(), "RGBA")
        return image.convert("RGBA")
    image.putpalette(entries[:, :3].tobytes(), "RGB")
    return image.convert("RGB")


def with_grey_key(image: Image.Image, key: int, depth: int) -> Image.Image:
    """Make one grey level of a 1, L or I;16 image transparent; `key` is in units of the file's bit depth."""
    levels = np.asarray(image if depth == 16 else image.convert("L"))
    hidden = levels == (key if depth >= 8 else key * 255 // (2**depth - 1))
    return _hide(plain(image), hidden)


def with_colour_key(image: Image.Image, key: tuple[int, ...]) -> Image.Image:
    """Make one colour of an RGB image transparent."""
    pixels = np.asarray(image)
    hidden = np.ones(pixels.shape[:2], dtype=np.bool_)
    for channel, level in enumerate(key):
        hidden &= pixels[..., channel] == level
    return _hide(image, hidden)


def _hide(image: Image.Image, hidden: NDArray[np.bool_]) -> Image.Image:
    if not hidden.any():
        return image
    shown = image.convert("RGB")
    shown.putalpha(Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8)))
    return shown


def over(image: Image.Image, background: int) -> Image.Image:
    """Lay an RGBA image over a grey level: round((a * c + (255 - a) * background) / 255) per channel, exact."""
    ground = Image.new("RGB", image.size, (background,) * 3)
    ground.paste(image.convert("RGB"), (0, 0), image.getchannel("A"))
    return ground


def drop_alpha(image: Image.Image) -> Image.Image:
    """The stored colours of an RGBA image, those of invisible pixels included."""
    return image.convert("RGB")
