"""From a canonical raster to the tensor a vision tower takes.

One function serves training, export and runtime, so they cannot drift. It equals the PIL image processors of
transformers, as they are under Pillow 13, bit for bit: resize on uint8, crop, then a table that holds the normalised
float32 of each of the 256 pixel values per channel.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safevlm_sdk.resize import resize

Resample = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
FloatTriple = tuple[float, float, float]


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How an image becomes a tensor.

    Attributes:
        resize: "exact" stretches to `height` x `width`; "shortest_edge" keeps the aspect ratio, makes the shorter
            side `shortest_edge` and cuts `height` x `width` out of the centre.
        height: Rows of the tensor.
        width: Columns of the tensor.
        shortest_edge: Pixels; only for "shortest_edge".
        resample: Pillow's filter. "nearest" lets an attacker hide content from the gate; do not train with it.
        rescale_factor: Multiplies the pixel values, in float64; usually 1/255.
        mean: Per channel, subtracted in float32.
        std: Per channel, divides in float32.
    """

    resize: Literal["exact", "shortest_edge"]
    height: int
    width: int
    shortest_edge: int | None
    resample: Resample
    rescale_factor: float
    mean: FloatTriple
    std: FloatTriple

    def __post_init__(self) -> None:
        if not (0 < self.height <= 4096 and 0 < self.width <= 4096):
            raise ValueError(f"height x width is {self.height} x {self.width}; each must lie in 1 to 4096")
        if (self.resize == "shortest_edge") != (self.shortest_edge is not None):
            raise ValueError("`shortest_edge` belongs to resize = shortest_edge, and to no other")
        if self.shortest_edge is not None and not max(self.height, self.width) <= self.shortest_edge <= 4096:
            raise ValueError(f"shortest_edge is {self.shortest_edge}; it must hold the crop and be at most 4096")
        if not all(value > 0 for value in (*self.std, self.rescale_factor)):
            raise ValueError("std and rescale_factor must be positive")


def resized_shape(height: int, width: int, spec: Preprocessing) -> tuple[int, int]:
    """(height, width) after resizing and before cropping."""
    if spec.shortest_edge is None:
        return spec.height, spec.width
    longer = int(spec.shortest_edge * max(height, width) / min(height, width))
    return (longer, spec.shortest_edge) if width <= height else (spec.shortest_edge, longer)


@lru_cache(maxsize=16)
def normalisation_table(spec: Preprocessing) -> NDArray[np.float32]:
    """float32 [3, 256], read-only: the normalised value of each pixel value, per channel."""
    rescaled = (np.arange(256, dtype=np.float64) * spec.rescale_factor).astype(np.float32)
    mean = np.array(spec.mean, dtype=np.float32)[:, None]
    std = np.array(spec.std, dtype=np.float32)[:, None]
    table = (rescaled[None] - mean) / std
    table.flags.writeable = False
    return table


def preprocess(pixels: NDArray[np.uint8], spec: Preprocessing) -> NDArray[np.float32]:
    """Turns one raster into one tensor.

    Args:
        pixels: uint8 [H, W, 3].
        spec: The bundle's or checkpoint's preprocessing.

    Returns:
        float32 [3, spec.height, spec.width], C-contiguous.
    """
    height, width = resized_shape(pixels.shape[0], pixels.shape[1], spec)
    resample = Image.Resampling[spec.resample.upper()]
    resized = np.asarray(resize(Image.fromarray(pixels), (width, height), resample))
    top, left = (height - spec.height) // 2, (width - spec.width) // 2
    cropped = resized[top : top + spec.height, left : left + spec.width]
    table = normalisation_table(spec)
    tensor = np.empty((3, spec.height, spec.width), dtype=np.float32)
    for channel in range(3):
        # With "raise", its default, it would write to a buffer first; no uint8 lies outside of the table.
        np.take(table[channel], cropped[:, :, channel], out=tensor[channel], mode="clip")
    return tensor
