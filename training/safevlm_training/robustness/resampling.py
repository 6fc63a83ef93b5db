"""The preprocessing once more, as matrices through which a gradient flows.

Pillow resizes uint8 in two passes and rounds after each; `safevlm_sdk.resize` fixes their order. The weights of a
pass are what Pillow makes of the identity matrix, so they are its own. Rounding has no useful gradient: here it
passes gradients on unchanged (straight-through), also where it clips. Pillow's fixed-point arithmetic rounds a few
values the other way; whoever attacks a gate must judge the result by the real preprocessing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from safevlm_sdk.preprocess import Preprocessing, Resample, resized_shape
from safevlm_sdk.resize import vertical_first


def resize_weights(size: int, resized: int, resample: Resample) -> Tensor:
    """float32 [resized, size]: the weight of each pixel of a line in each pixel of the resized line."""
    identity = Image.fromarray(np.eye(size, dtype=np.float32))
    return torch.from_numpy(np.asarray(identity.resize((resized, size), Image.Resampling[resample.upper()])).T.copy())


def rounded(values: Tensor) -> Tensor:
    """The nearest of 0 to 255, halves going up; its gradient is 1 everywhere."""
    return values + (torch.floor(values + 0.5).clamp(0, 255) - values).detach()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resize:
    """`safevlm_sdk.resize.resize` from one size to another.

    Attributes:
        rows: [H', H].
        columns: [W', W].
        vertical_first: The vertical pass, with `rows`, comes before the horizontal one.
    """

    rows: Tensor
    columns: Tensor
    vertical_first: bool

    @classmethod
    def between(cls, shape: tuple[int, int], resized: tuple[int, int], resample: Resample) -> Resize:
        """From (height, width) to (height, width)."""
        rows, columns = (resize_weights(size, target, resample) for size, target in zip(shape, resized, strict=True))
        return cls(rows=rows, columns=columns, vertical_first=vertical_first(shape[::-1], resized[::-1]))

    def __call__(self, values: Tensor) -> Tensor:
        """[..., H, W] of 0 to 255 -> whole numbers [..., H', W']."""
        values = rounded(values)
        if self.vertical_first:
            return rounded(rounded(self.rows @ values) @ self.columns.T)
        return rounded(self.rows @ rounded(values @ self.columns.T))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DifferentiablePreprocess:
    """`safevlm_sdk.preprocess.preprocess` for rasters of one size, with gradients."""

    resize: Resize
    spec: Preprocessing

    @classmethod
    def of(cls, shape: tuple[int, int], spec: Preprocessing) -> DifferentiablePreprocess:
        """For rasters of this (height, width)."""
        resize = Resize.between(shape, resized_shape(*shape, spec), spec.resample)
        return cls(resize=resize, spec=spec)

    def __call__(self, values: Tensor) -> Tensor:
        """Raster values [N, 3, H, W] of 0 to 255 -> normalised pixels [N, 3, spec.height, spec.width]."""
        spec = self.spec
        resized = self.resize(values)
        top, left = (resized.shape[2] - spec.height) // 2, (resized.shape[3] - spec.width) // 2
        cropped = resized[:, :, top : top + spec.height, left : left + spec.width]
        mean, std = (torch.tensor(triple).view(3, 1, 1) for triple in (spec.mean, spec.std))
        return (cropped * spec.rescale_factor - mean) / std
