"""A universal patch: one square, trained on some pictures, that is to make the gate allow others.

The patch lies in the lower right corner, where it may hide content: a grey square at the same place is its control.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from safevlm_training.robustness.attacks import to_pixels, to_values
from safevlm_training.robustness.effects import Pixels
from safevlm_training.robustness.gate import Gate
from safevlm_training.robustness.resampling import DifferentiablePreprocess, Resize

PATCH_SIDE = 128
MIDDLE = 128
FIRST_STEP = 24.0
MOMENTUM = 0.9


def patch_side(shape: tuple[int, int], share: float) -> int:
    """Side of the square that covers `share` of a picture (height, width), as far as it fits."""
    side = round(math.sqrt(share * shape[0] * shape[1]))
    return max(1, min(side, *shape))


def with_patch(pixels: Pixels, patch: Pixels, share: float) -> Pixels:
    """A copy of uint8 [H, W, 3] whose lower right corner shows the patch, resized as Pillow does."""
    side = patch_side(pixels.shape[:2], share)
    result = pixels.copy()
    result[-side:, -side:] = np.asarray(Image.fromarray(patch).resize((side, side), Image.Resampling.BICUBIC))
    return result


def grey_patch() -> Pixels:
    """The control: a square of middle grey."""
    return np.full((PATCH_SIDE, PATCH_SIDE, 3), MIDDLE, dtype=np.uint8)


def train_patch(gate: Gate, pictures: Sequence[Pixels], *, share: float, steps: int, seed: int) -> Pixels:
    """The patch that makes the gate allow most of `pictures`.

    Signed steps with momentum, which grow smaller, down the mean of log(1 + exp(margin)).

    Returns:
        uint8 [128, 128, 3].
    """
    views = [_View(gate, pixels, share) for pixels in pictures]
    patch = torch.rand((1, 3, PATCH_SIDE, PATCH_SIDE), generator=torch.Generator().manual_seed(seed)) * 255
    speed = torch.zeros_like(patch)
    best, least = patch, float("inf")
    for step in range(steps + 1):
        loss, gradient = _mean_loss(views, patch)
        if loss < least:
            best, least = patch, loss
        speed = MOMENTUM * speed + gradient / gradient.abs().mean().clamp(min=1e-12)
        patch = (patch - FIRST_STEP * (1 - step / (steps + 1)) * speed.sign()).clamp(0, 255)
    return to_pixels(best)


class _View:
    """One picture with a hole, ready to take a patch."""

    def __init__(self, gate: Gate, pixels: Pixels, share: float) -> None:
        shape = pixels.shape[:2]
        side = patch_side(shape, share)
        self._gate = gate
        self._clean = to_values(pixels)
        self._corner = (shape[1] - side, 0, shape[0] - side, 0)
        self._hole = F.pad(torch.ones(1, 1, side, side), self._corner) > 0
        self._resize = Resize.between((PATCH_SIDE, PATCH_SIDE), (side, side), "bicubic")
        self._path = DifferentiablePreprocess.of(shape, gate.model.config.preprocessing)

    def loss(self, patch: Tensor) -> Tensor:
        shown = F.pad(self._resize(patch), self._corner)
        margin = self._gate.margin(self._path(torch.where(self._hole, shown, self._clean)))
        return F.softplus(margin).sum()


def _mean_loss(views: Sequence[_View], patch: Tensor) -> tuple[float, Tensor]:
    """The mean loss and its gradient, one picture in memory at a time."""
    total, gradients = 0.0, torch.zeros_like(patch)
    for view in views:
        variable = patch.detach().requires_grad_()
        loss = view.loss(variable)
        gradients += torch.autograd.grad(loss, variable)[0]
        total += loss.item()
    return total / len(views), gradients / len(views)
