"""What a bundle says of the evidence behind its thresholds."""

from __future__ import annotations

from typing import Literal

import msgspec

from safevlm_sdk.view_plan import ViewPlan


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The base of every part of the record."""


class Rate(_Strict, frozen=True):
    """How often the gate errs on one kind of images; counts are of independent groups.

    Attributes:
        kind: "flag": a harmless image is not ALLOW; "miss": a risky one is ALLOW.
        category: Of the risky images; None for harmless ones.
        at_most: The bound that was asked for and is kept; None where the rate was measured and nothing was asked.
        confidence: Of this bound alone; several bounds share what is left of 1.
        images: How many were judged.
        groups: How many independent groups they are.
        errors: Groups with at least one error.
        allowed: Groups that were allowed to err, known before any was counted; None where nothing was asked.
        upper_bound: Exact upper bound on the rate, at `confidence`.
    """

    kind: Literal["flag", "miss"]
    category: str | None
    at_most: float | None
    confidence: float
    images: int
    groups: int
    errors: int
    allowed: int | None
    upper_bound: float

    def __post_init__(self) -> None:
        if not (0 <= self.errors <= self.groups <= self.images and 0.0 <= self.upper_bound <= 1.0):
            raise ValueError(f"{self.errors} errors in {self.groups} groups of {self.images} images is no rate")
        if not 0.5 <= self.confidence < 1.0:
            raise ValueError(f"confidence is {self.confidence}; it must lie in 0.5 to 1")


class CalibrationRecord(_Strict, frozen=True, omit_defaults=True):
    """One run of `safevlm calibrate`.

    Attributes:
        came_from: Digest of the bundle or checkpoint that was calibrated.
        policy: Digest of the policy that the rates hold under.
        images: Digest of the images' hashes, categories and groups.
        rates: Bounds that were asked for, and rates that were measured beside them.
        confidence: Of all bounds together.
        temperature_groups: Groups that set the temperature alone; 0 where it stayed as it was.
        failed: Images that the gate failed on; harmless ones count as flagged, risky ones do not count.
        near_threshold: Images within 0.01 of a new threshold.
        undecided: Those of them that are so near that the graphs' largest error on the proof images could turn them.
        view_plan: The views that the images were judged by, the worst of them counting; None for a checkpoint.
    """

    came_from: str
    policy: str
    images: str
    rates: tuple[Rate, ...]
    confidence: float
    temperature_groups: int
    failed: int
    near_threshold: int
    undecided: int
    view_plan: ViewPlan | None = None
