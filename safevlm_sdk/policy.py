"""What follows from a risk: a strict TOML file that maps category and level to an action."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from safevlm_sdk.errors import PolicyError
from safevlm_sdk.strict import canonical_json, digest, from_toml
from safevlm_sdk.taxonomy import SAFE, RiskLevel


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


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An operator's decisions. A category without an entry in `actions` is switched off.

    Attributes:
        schema: The version of this file format.
        name: A name for reports.
        uncovered: What follows when no loaded bundle covers a category of `actions`: judge what is covered
            ("allow"), turn every ALLOW into CAUTION ("caution"), or refuse to load ("refuse").
        actions: Category to actions per level; these are the categories that are wanted.
        on_error: The action when the gate itself failed.
        thresholds: Category to threshold in (0, 1], instead of the bundle's.
        any_threshold: Threshold on the score in (0, 1], instead of the bundle's.
        frames: "one" refuses an image with several frames, "all" judges every frame.
        mpo: "refuse" refuses multi-picture JPEG files, "judge" judges every picture in them.
    """

    schema: Literal[1]
    name: str
    uncovered: Literal["allow", "caution", "refuse"]
    actions: dict[str, LevelActions]
    on_error: Literal["block", "caution"] = "block"
    thresholds: dict[str, float] = {}
    any_threshold: float | None = None
    frames: Literal["one", "all"] = "one"
    mpo: Literal["refuse", "judge"] = "refuse"

    def __post_init__(self) -> None:
        if not self.actions:
            raise ValueError("`actions` is empty: name at least one category to judge, as [actions.privacy]")
        if SAFE in self.actions:
            raise ValueError("`safe` is not a risk and takes no actions: remove [actions.safe]")
        for category, threshold in self.thresholds.items():
            if category not in self.actions:
                raise ValueError(f"thresholds.{category}: there is no [actions.{category}]")
            if not 0.0 < threshold <= 1.0:
                raise ValueError(f"thresholds.{category} is {threshold}; it must lie in (0, 1]")
        if self.any_threshold is not None and not 0.0 < self.any_threshold <= 1.0:
            raise ValueError(f"any_threshold is {self.any_threshold}; it must lie in (0, 1]")

    @property
    def digest(self) -> str:
        """`sha256:…` of the policy's canonical JSON: two files that say the same have one digest."""
        return digest(canonical_json(self))

    @property
    def error_action(self) -> Action:
        """The action when the gate itself failed."""
        return Action(self.on_error)

    def uncovered_by(self, covered: Iterable[str]) -> tuple[str, ...]:
        """The wanted categories that are not among `covered`, sorted."""
        return tuple(sorted(set(self.actions) - set(covered)))


def checked(policy: Policy) -> Policy:
    """A copy that went through the same checks as a file; whoever holds the original cannot change it.

    Raises:
        PolicyError: A value is not valid.
    """
    try:
        return msgspec.convert(msgspec.to_builtins(policy), Policy, strict=True)
    except (msgspec.ValidationError, TypeError) as problem:
        raise PolicyError(f"policy: {problem}") from problem


def parse_policy(text: str | bytes, *, where: str = "policy") -> Policy:
    """Reads a policy from TOML text.

    Raises:
        PolicyError: The text is no valid policy; the message names the field.
    """
    return from_toml(text, Policy, error=PolicyError, where=where)


def load_policy(path: str | Path) -> Policy:
    """Reads a policy from a TOML file.

    Raises:
        PolicyError: The file cannot be read or is no valid policy.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as problem:
        raise PolicyError(f"{path}: cannot be read ({problem.strerror})") from problem
    return parse_policy(text, where=str(path))


def default_policy_text() -> bytes:
    """The TOML text of the shipped default policy."""
    return (resources.files("safevlm_sdk") / "policies" / "default.toml").read_bytes()
