"""Which layers stay float32: chosen by what each of them does to decisions and outputs, not by hand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

MOST_EXCLUDED = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Harm:
    """What quantization did on the calibration images; more is worse.

    Attributes:
        flips: Decisions that changed.
        error: Largest error of any output, as a share of what is allowed for it.
    """

    flips: int
    error: float

    def __str__(self) -> str:
        return f"{self.flips} flips and {self.error:.2g} of the allowed error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """The layers that stay float32, and what that bought.

    Attributes:
        layers: Names, in the order in which they were excluded.
        before: With every layer quantized.
        after: With these excluded.
        fits: Whether that is little enough.
    """

    layers: tuple[str, ...]
    before: Harm
    after: Harm
    fits: bool


def choose_excluded(
    layers: Sequence[str], harm: Callable[[Collection[str]], Harm], *, max_flips: int, max_error: float
) -> Exclusion:
    """Excludes the worst layers, one after the other, until what the rest does is little enough.

    Layers are ranked by the error that each of them causes when it alone is quantized: flips are too few for that,
    and they are of whatever image lies nearest to a threshold.

    Args:
        layers: Names of all layers that can be quantized.
        harm: Quantizes all layers but the given ones, and measures.
        max_flips: Flips that are little enough.
        max_error: Share of the allowed error that is little enough.

    Returns:
        The first choice that fits; else, with half of the layers excluded, the best one that was seen.
    """

    def fits(found: Harm) -> bool:
        return found.flips <= max_flips and found.error <= max_error

    before = harm(())
    best = Exclusion(layers=(), before=before, after=before, fits=fits(before))
    if best.fits:
        return best
    alone = {layer: harm([other for other in layers if other != layer]).error for layer in layers}
    ranked = sorted(layers, key=lambda layer: -alone[layer])
    for count in range(1, int(len(layers) * MOST_EXCLUDED) + 1):
        after = harm(ranked[:count])
        if fits(after) or after < best.after:
            best = Exclusion(layers=tuple(ranked[:count]), before=before, after=after, fits=fits(after))
        if best.fits:
            break
    return best
