"""How much is measured, with which attacks: what a robustness figure depends on beside checkpoint and images."""

from __future__ import annotations

from dataclasses import dataclass, field

from safevlm_sdk.errors import OptionError
from safevlm_training.robustness.corruptions import CORRUPTIONS, Corruption


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackPlan:
    """The attacks and their strength.

    Attributes:
        images: Risky images, and safe images, that are attacked; each was judged right before.
        epsilons: Largest changes of a value, of 255.
        steps: Gradients per image and epsilon.
        max_side: Attacked rasters are shrunk to this longer side first, which bounds the cost.
        patch_images: Further risky images that the universal patch is trained on.
        patch_steps: Gradients of the universal patch on each of them.
        patch_share: Of a picture's area, that the patch covers.
    """

    images: int = 24
    epsilons: tuple[int, ...] = (2, 4, 8)
    steps: int = 20
    max_side: int = 512
    patch_images: int = 8
    patch_steps: int = 40
    patch_share: float = 0.1

    def __post_init__(self) -> None:
        counts = (self.images, self.steps, self.max_side, self.patch_images, self.patch_steps)
        if min(counts) < 1:
            raise OptionError(f"an attack needs at least 1 of everything, and this has {counts}: {self}")
        if not all(1 <= epsilon <= 255 for epsilon in self.epsilons):
            raise OptionError(f"epsilons are {self.epsilons}; each must lie in 1 to 255")
        if not 0 < self.patch_share <= 0.5:
            raise OptionError(f"patch_share is {self.patch_share}; it must lie in (0, 0.5]")


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessPlan:
    """What is measured.

    Attributes:
        corruptions: Each with its severities.
        images: Risky images, and safe images, that are corrupted, at most.
        attack: None for no attacks.
        seed: Chooses images and random starts.
    """

    corruptions: tuple[Corruption, ...] = CORRUPTIONS
    images: int = 100
    attack: AttackPlan | None = field(default_factory=AttackPlan)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.images < 1:
            raise OptionError(f"images is {self.images}; robustness needs at least 1 of each kind")
