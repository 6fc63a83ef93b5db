"""The one table of corruptions that a gate is measured under, each from mild to severe."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from safevlm_sdk.raster import raster_digest
from safevlm_training.robustness import effects
from safevlm_training.robustness.effects import Pixels
from safevlm_training.robustness.screenshot import screenshot

Change = Callable[[Pixels, np.random.Generator], Pixels]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One severity of a corruption."""

    label: str
    change: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Corruption:
    """A kind of damage.

    Attributes:
        name: Unique.
        steps: From mild to severe; labels are unique.
    """

    name: str
    steps: tuple[Step, ...]


def _corruption(name: str, steps: dict[str, Change]) -> Corruption:
    return Corruption(name=name, steps=tuple(Step(label=label, change=change) for label, change in steps.items()))


CORRUPTIONS = (
    _corruption("JPEG", {f"quality {q}": partial(effects.jpeg, quality=q) for q in (95, 80, 60, 45, 30)}),
    _corruption(
        "resize", {f"{share:.0%} of each side": partial(effects.shrink, share=share) for share in (0.75, 0.5, 0.25)}
    ),
    _corruption(
        "messenger",
        {
            f"longer side {side}, JPEG {q}": partial(effects.messenger, long_side=side, quality=q)
            for side, q in ((512, 75), (320, 60))
        },
    ),
    _corruption(
        "Gaussian blur",
        {
            f"deviation {share:.1%} of the side": partial(effects.blur, share=share)
            for share in (0.002, 0.004, 0.008, 0.016)
        },
    ),
    _corruption(
        "Gaussian noise", {f"deviation {d} of 255": partial(effects.noise, deviation=d) for d in (8, 16, 32)}
    ),
    _corruption(
        "low light", {f"1/{2**stops} of the light": partial(effects.low_light, stops=stops) for stops in (1, 2, 4)}
    ),
    _corruption(
        "motion blur",
        {f"{share:.0%} of the side": partial(effects.motion, share=share) for share in (0.01, 0.02, 0.04)},
    ),
    _corruption(
        "rotation", {f"{angle} degrees": partial(effects.rotate, degrees=angle) for angle in (5, 15, 90, 180)}
    ),
    _corruption(
        "crop, central",
        {f"{share:.0%} of the area": partial(effects.crop, share=share, central=True) for share in (0.9, 0.75, 0.5)},
    ),
    _corruption(
        "crop, corner",
        {f"{share:.0%} of the area": partial(effects.crop, share=share, central=False) for share in (0.9, 0.75, 0.5)},
    ),
    _corruption(
        "screenshot",
        {f"fits {share:.0%} of the sides": partial(screenshot, share=share) for share in (0.9, 0.6, 0.35)},
    ),
)


def corrupt(pixels: Pixels, corruption: Corruption, step: Step) -> Pixels:
    """Damages uint8 pixels [H, W, 3]; equal pixels, corruption and step give equal results.

    Returns:
        uint8 [H', W', 3], C-contiguous.
    """
    key = hashlib.sha256(f"{raster_digest(pixels)}:{corruption.name}:{step.label}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(key[:16], "big"))
    return np.ascontiguousarray(step.change(pixels, rng))
