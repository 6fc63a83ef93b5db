"""The parts of a policy that are more than a line: rules of one source, votes of camera frames, overrides."""

from __future__ import annotations

import datetime

import msgspec

from safevlm_sdk.actions import Action, LevelActions
from safevlm_sdk.told_words import check_braces, check_words

MAX_FRAMES = 1000


class SourceRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What is different for images of one source; what is not named here is as for all others.

    Attributes:
        thresholds: Category to threshold in (0, 1].
        any_threshold: Threshold on the score in (0, 1].
        actions: Category to actions per level, in the place of the general ones.
    """

    thresholds: dict[str, float] = {}
    any_threshold: float | None = None
    actions: dict[str, LevelActions] = {}


class Hysteresis(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of a camera's last `n` frames, `k` must call for an action before it is taken; see `held_action`."""

    k: int
    n: int

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.n <= MAX_FRAMES:
            raise ValueError(f"k = {self.k}, n = {self.n}: 1 <= k <= n <= {MAX_FRAMES} must hold")


class Override(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Another rule for one category until a day; it may be softer, and whoever reads a verdict is told of it.

    Attributes:
        category: Of `actions`.
        until: The last day, in UTC, on which it has effect.
        reason: Why; every verdict under it says so.
        action: The action at every level.
        off: The category is not judged at all.
    """

    category: str
    until: datetime.date
    reason: str
    action: Action | None = None
    off: bool = False

    def __post_init__(self) -> None:
        if (self.action is None) != self.off:
            raise ValueError(f"the override of {self.category!r} must have either `action` or `off = true`")
        check_words(self.reason, where=f"the reason of the override of {self.category!r}")

    def active(self, today: datetime.date) -> bool:
        """Whether it has effect on a day."""
        return today <= self.until

    @property
    def sentence(self) -> str:
        """What a verdict's reason says of it."""
        does = "is off" if self.action is None else f"is {self.action.value} at every level"
        return f"override: {self.category} {does} until {self.until.isoformat()} ({self.reason})"


def check_hint(text: str, *, where: str) -> None:
    """Refuses a hint with braces or refused words.

    Raises:
        ValueError: It is refused.
    """
    check_words(text, where=where)
    check_braces(text, where=where)
