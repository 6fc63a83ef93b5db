"""The answer to "may this image go on?"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.judged_view import JudgedView
from safevlm_sdk.policy import Action
from safevlm_sdk.taxonomy import RiskLevel

JSON_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """What the gate says of one image. It speaks of the image alone, not of the question beside it.

    Attributes:
        action: What the application must do.
        category: "safe" or the risk that gave the action; None when the gate failed.
        level: NONE to HIGH; None when the gate failed.
        score: Calibrated P(some judged risk), 0 to 1; None when the gate failed.
        categories: Probability per covered risk; empty when the gate failed.
        covered: The risks that were looked for: a bundle was trained to see them and its policy wants them.
        uncovered: The risks that the policy wants and no loaded bundle covers.
        error: None, or the code of what failed: a failed gate is not a judged risk.
        reason: Which threshold, frame, background, bundle or policy line decided.
        timings_ms: Milliseconds for decode, preprocess, infer, decide and total.
        provider: The execution provider that ran; None when nothing ran.
        source_sha256: Digest of the encoded bytes; None for arrays, and when they could not be read.
        raster_sha256: Digest of the raster that was judged (of the frame that decided).
        bundle_digests: Digests of the bundles that judged.
        policy_digests: Digests of the policies applied, one per bundle.
        attention: float32 [H, W] attention of the head over the patch grid, or None.
        region: (left, top, right, bottom) of the tile that decided, in pixels of the raster; the attention is of it
            alone. None where the whole picture decided.
        cached: Taken from the cache: the same pixels were judged before, by the same bundles and policies.
        views: What each frame, background and tile calls for by itself, in the order of judging; the worst
            `MAX_TOLD_VIEWS` of them where there are more. Empty where nothing was judged, or features were.
        views_judged: How many there were.
    """

    action: Action
    category: str | None
    level: RiskLevel | None
    score: float | None
    categories: Mapping[str, float]
    covered: tuple[str, ...]
    uncovered: tuple[str, ...]
    error: str | None
    reason: str
    timings_ms: Mapping[str, float]
    provider: str | None
    source_sha256: str | None
    raster_sha256: str | None
    bundle_digests: tuple[str, ...]
    policy_digests: tuple[str, ...]
    attention: NDArray[np.float32] | None = field(default=None, repr=False)
    safety_prompt: str = ""
    refusal: str = ""
    observed: Action | None = None
    region: tuple[int, int, int, int] | None = None
    cached: bool = False
    views: tuple[JudgedView, ...] = field(default=(), repr=False)
    views_judged: int = 0

    def __post_init__(self) -> None:
        judged = (self.category, self.level, self.score)
        if self.error is None and any(part is None for part in judged):
            raise ValueError("a verdict without error needs a category, a level and a score")
        # Under a policy that only observes, it is the observed action that must not allow.
        meant = self.action if self.observed is None else self.observed
        if self.error is not None and (any(part is not None for part in judged) or meant is Action.ALLOW):
            raise ValueError("a failed verdict claims no risk and never allows, unless its policy only observes")
        if self.action.severity > meant.severity:
            raise ValueError("what is done cannot be harder than what was observed")
        if (self.safety_prompt and self.action is not Action.CAUTION) or (
            self.refusal and self.action is not Action.BLOCK
        ):
            raise ValueError("a safety prompt goes with CAUTION alone, a refusal with BLOCK alone")

    @property
    def allowed(self) -> bool:
        """True only for ALLOW."""
        return self.action is Action.ALLOW

    def heatmap(self) -> NDArray[np.float32]:
        """Where the head looked: its attention over the patch grid.

        Returns:
            float32 [H, W] that sums to 1, row 0 at the top: of `region`, or of the whole picture.

        Raises:
            ValueError: The gate failed before it looked anywhere, or the graph gives no attention.
        """
        if self.attention is None:
            raise ValueError("this verdict has no heatmap: the gate failed, or its graph gives no attention")
        return self.attention

    def to_dict(self) -> dict[str, Any]:
        """The stable, versioned JSON form; the heatmap is left out."""
        return {
            "schema": JSON_SCHEMA_VERSION,
            "action": self.action.value,
            "category": self.category,
            "level": None if self.level is None else int(self.level),
            "score": self.score,
            "categories": dict(self.categories),
            "covered": list(self.covered),
            "uncovered": list(self.uncovered),
            "error": self.error,
            "reason": self.reason,
            "timings_ms": {step: round(ms, 3) for step, ms in self.timings_ms.items()},
            "provider": self.provider,
            "source_sha256": self.source_sha256,
            "raster_sha256": self.raster_sha256,
            "bundle_digests": list(self.bundle_digests),
            "policy_digests": list(self.policy_digests),
            "safety_prompt": self.safety_prompt,
            "refusal": self.refusal,
            "observed": None if self.observed is None else self.observed.value,
            "region": None if self.region is None else list(self.region),
            "cached": self.cached,
            "views": [view.to_dict() for view in self.views],
            "views_judged": self.views_judged,
        }
