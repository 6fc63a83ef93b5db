"""Icons as they are laid on a picture: cut out, coloured, on a tile, as a sticker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from safevlm_training.documents.palette import hsv
from safevlm_training.documents.values import Colour

CONTRAST = 90.0
"""Least difference in brightness between an icon of one colour and what lies below it, of 255."""


def cut_out(path: Path) -> Image.Image:
    """Open an icon without the empty space around it; RGBA.

    Raises:
        OSError: It cannot be read.
    """
    with Image.open(path) as opened:
        icon = opened.convert("RGBA")
    return icon.crop(icon.getchannel("A").getbbox())


def one_colour(icon: Image.Image) -> bool:
    """Tell a silhouette from a coloured picture."""
    pixels = np.asarray(icon)
    shown = pixels[pixels[..., 3] > 200][:, :3]
    return len(shown) > 0 and int((shown.max(0) - shown.min(0)).max()) <= 8


def inked(icon: Image.Image, ink: Colour) -> Image.Image:
    """Give a silhouette another colour."""
    filled = Image.new("RGBA", icon.size, (*ink, 255))
    filled.putalpha(icon.getchannel("A"))
    return filled


def ink_over(rng: np.random.Generator, ground: Colour) -> Colour:
    """Choose a colour that can be told from the ground: black, white, a deep or a pale one."""
    hue = rng.random()
    deep, pale = hsv(hue, rng.uniform(0.5, 1), 0.35), hsv(hue, rng.uniform(0.1, 0.6), 1)
    options = ((16, 16, 18), deep, pale, (255, 255, 255))
    order = [options[int(n)] for n in rng.permutation(len(options))]
    fitting = [ink for ink in order if abs(brightness(ink) - brightness(ground)) >= CONTRAST]
    return fitting[0] if fitting else max(order, key=lambda ink: abs(brightness(ink) - brightness(ground)))


def brightness(colour: Colour) -> float:
    """Weigh red, green and blue as the eye does; 0 to 255."""
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def fitted(icon: Image.Image, side: int) -> Image.Image:
    """Enlarge or shrink an icon to fit a square, centred; RGBA."""
    scale = side / max(icon.size)
    small = icon.resize(
        (max(1, round(icon.width * scale)), max(1, round(icon.height * scale))), Image.Resampling.BICUBIC
    )
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return square


def tile(icon: Image.Image, ground: Colour, *, disc: bool) -> Image.Image:
    """Put a square icon onto a coloured disc or rounded square of one and a half times its size."""
    side = icon.width * 3 // 2
    plate = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    radius = side / 2 if disc else side / 6
    ImageDraw.Draw(plate).rounded_rectangle([0, 0, side - 1, side - 1], radius, fill=(*ground, 255))
    plate.alpha_composite(icon, ((side - icon.width) // 2, (side - icon.height) // 2))
    return plate


def sticker(icon: Image.Image) -> Image.Image:
    """Surround a square icon with a white rim, a twelfth of its size."""
    rim = max(2, icon.width // 12)
    wide = Image.new("RGBA", (icon.width + 4 * rim, icon.height + 4 * rim), (0, 0, 0, 0))
    wide.paste(icon, (2 * rim, 2 * rim))
    edge = wide.getchannel("A").filter(ImageFilter.GaussianBlur(rim * 0.7)).point([0] * 26 + [255] * 230)
    white = Image.new("RGBA", wide.size, (250, 250, 248, 255))
    white.putalpha(edge.filter(ImageFilter.GaussianBlur(0.7)))
    white.alpha_composite(wide)
    return white
