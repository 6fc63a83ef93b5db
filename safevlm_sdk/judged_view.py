"""One look at an image: which frame, over which background, which part, and what it alone calls for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from safevlm_sdk.actions import Action
from safevlm_sdk.taxonomy import RiskLevel

MAX_TOLD_VIEWS: Final = 256
"""A verdict tells of at most so many views: where there were more, of the worst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedView:
    """What follows from one view of an image by itself, as if every policy were enforced.

    Attributes:
        bundle: Name of the bundle that judged it.
        frame: Number of the frame, from 1.
        background: "white", "black" or "grey" for a transparent frame over it, "alpha-dropped" for one without its
            alpha; None for an opaque frame.
        box: (left, top, right, bottom) of the tile, in pixels of the raster; None for the whole picture.
        action: What it calls for.
        category: "safe" or a risk; None when the gate failed on it.
        level: None when the gate failed on it.
        score: Likewise.
        error: None, or the code of what failed.
        decides: The verdict is named after this view.
    """

    bundle: str
    frame: int
    background: str | None
    box: tuple[int, int, int, int] | None
    action: Action
    category: str | None
    level: RiskLevel | None
    score: float | None
    error: str | None
    decides: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "bundle": self.bundle,
            "frame": self.frame,
            "background": self.background,
            "box": None if self.box is None else list(self.box),
            "action": self.action.value,
            "category": self.category,
            "level": None if self.level is None else int(self.level),
            "score": self.score,
            "error": self.error,
            "decides": self.decides,
        }
