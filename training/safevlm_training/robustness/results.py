"""What a robustness measurement found, as frozen plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from safevlm_training.data import BadRow
from safevlm_training.robustness.plan import AttackPlan
from safevlm_training.robustness.rates import Rate

Goal = Literal["allow", "flag"]

UNCHANGED = "unchanged"
PGD = "gradient (PGD)"
SIGNS = "random signs"
PATCH = "universal patch"
GREY = "grey square"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Images of one kind that were corrupted, and how many groups they come from."""

    images: int
    groups: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CorruptionRow:
    """Flagged images under one severity of one corruption.

    Attributes:
        corruption: Its name, or `UNCHANGED`.
        severity: Label of the step; empty for unchanged images.
        risky: Flagged among risky images; high is good.
        safe: Flagged among safe images; low is good.
        risky_score: Mean score of the risky images, or None without any.
        safe_score: Mean score of the safe ones.
    """

    corruption: str
    severity: str
    risky: Rate
    safe: Rate
    risky_score: float | None
    safe_score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackRow:
    """How often one attack, or its control, turns a right judgement into a wrong one.

    Attributes:
        attack: `PGD` or `PATCH`; `SIGNS` and `GREY` are their controls.
        goal: "allow" a risky image, or "flag" a safe one.
        epsilon: Largest change of a value, of 255; None for squares.
        success: Wrong after, among images judged right before.
        score_before: Mean score of these images, or None without any.
        score_after: The same after the attack.
    """

    attack: str
    goal: Goal
    epsilon: int | None
    success: Rate
    score_before: float | None
    score_after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """The attacked images, judged by a checkpoint whose weights the attacker did not use.

    Attributes:
        name: Of its folder.
        digest: `sha256:…`.
        rows: Of the images that both checkpoints judged right before.
    """

    name: str
    digest: str
    rows: tuple[AttackRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessResult:
    """Everything that was measured on one checkpoint at its own thresholds.

    Attributes:
        checkpoint: Name of its folder.
        digest: `sha256:…`.
        thresholds: Of each risk.
        any_threshold: Of the score.
        seed: That chose images and random starts.
        risky: The corrupted risky images.
        safe: The corrupted safe images.
        corruptions: The first row is of the unchanged images.
        attack: The attacks' strength; None when there was none.
        attacks: With their controls.
        patch_images: What the universal patch was trained on; 0 for no patch.
        transfers: One per further checkpoint.
        skipped: Images that could not be decoded.
    """

    checkpoint: str
    digest: str
    thresholds: Mapping[str, float]
    any_threshold: float
    seed: int
    risky: Sample
    safe: Sample
    corruptions: tuple[CorruptionRow, ...]
    attack: AttackPlan | None
    attacks: tuple[AttackRow, ...]
    patch_images: int
    transfers: tuple[Transfer, ...]
    skipped: tuple[BadRow, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        return values
