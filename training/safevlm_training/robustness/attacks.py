"""Attacks by someone who has the weights: projected gradient descent through the preprocessing, and its control.

Projected gradient descent (Madry et al., arXiv 1706.06083) with the maximum norm, on the raster itself. What comes
out is a uint8 raster: nothing counts before it is rounded and judged as any other picture.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from safevlm_training.robustness.effects import Pixels
from safevlm_training.robustness.gate import Gate
from safevlm_training.robustness.resampling import DifferentiablePreprocess, rounded

STEP = 2.5  # sum of all steps, in multiples of the largest change allowed


def pgd(gate: Gate, pixels: Pixels, *, epsilon: int, steps: int, flag: bool, seed: int) -> Pixels:
    """Changes every value by at most `epsilon` of 255 so that the gate decides otherwise.

    One random start, signed steps of 2.5 * epsilon / steps; the best point on the way is kept.

    Args:
        gate: Whose weights the attacker has.
        pixels: uint8 [H, W, 3].
        epsilon: Largest change of a value.
        steps: Gradients taken.
        flag: True to have it flagged, False to have it allowed.
        seed: Of the random start.

    Returns:
        uint8 [H, W, 3], never further than `epsilon` from `pixels`.
    """
    clean = to_values(pixels)
    low, high = (clean - epsilon).clamp(min=0), (clean + epsilon).clamp(max=255)
    start = torch.rand(clean.shape, generator=torch.Generator().manual_seed(seed))
    values = low + start * (high - low)
    path = DifferentiablePreprocess.of(pixels.shape[:2], gate.model.config.preprocessing)
    best, most = values, -float("inf")
    for step in range(steps + 1):
        values.requires_grad_(step < steps)
        gain = gate.margin(path(values)).sum() * (1 if flag else -1)
        if gain.item() > most:
            best, most = values.detach(), gain.item()
        if step < steps:
            (gradient,) = torch.autograd.grad(gain, values)
            moved = values.detach() + STEP * epsilon / steps * gradient.sign()
            values = torch.minimum(torch.maximum(moved, low), high)
    return to_pixels(best)


def random_signs(pixels: Pixels, *, epsilon: int, seed: int) -> Pixels:
    """The control of an attack: every value goes up or down by `epsilon`, at random."""
    signs = np.random.default_rng(seed).integers(0, 2, pixels.shape, dtype=np.int16) * 2 - 1
    changed: Pixels = np.clip(pixels + epsilon * signs, 0, 255).astype(np.uint8)
    return changed


def to_values(pixels: Pixels) -> Tensor:
    """uint8 [H, W, 3] -> float32 [1, 3, H, W] of 0 to 255."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32))[None]


def to_pixels(values: Tensor) -> Pixels:
    """[1, 3, H, W] of 0 to 255 -> uint8 [H, W, 3]."""
    return np.array(rounded(values)[0].permute(1, 2, 0).numpy(), dtype=np.uint8, order="C")
