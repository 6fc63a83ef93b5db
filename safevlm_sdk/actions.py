"""What an application must do with an image, and that by level of risk."""

from __future__ import annotations

from enum import Enum

import msgspec

from safevlm_sdk.taxonomy import RiskLevel


class Action(str, Enum):
    """What the application must do with the image."""

    ALLOW = "allow"
    CAUTION = "caution"
    BLOCK = "block"

    @property
    def severity(self) -> int:
        """0 for ALLOW, 1 for CAUTION, 2 for BLOCK."""
        return ("allow", "caution", "block").index(self.value)


class LevelActions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The action for each level of one category; a higher level is never treated more softly."""

    low: Action
    medium: Action
    high: Action

    def __post_init__(self) -> None:
        if not self.low.severity <= self.medium.severity <= self.high.severity:
            raise ValueError(
                f"low = {self.low.value}, medium = {self.medium.value}, high = {self.high.value}: "
                "a higher level must not have a softer action"
            )

    def at(self, level: RiskLevel) -> Action:
        """The action at LOW, MEDIUM or HIGH."""
        return (self.low, self.medium, self.high)[level - 1]


def hardest(actions: list[Action]) -> Action:
    """The most severe of some actions; ALLOW of none."""
    return max(actions, key=lambda action: action.severity, default=Action.ALLOW)
