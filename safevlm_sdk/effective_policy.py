"""What a policy says of one source on one day: a policy without sources and overrides."""

from __future__ import annotations

import datetime

import msgspec

from safevlm_sdk.actions import LevelActions
from safevlm_sdk.policy import Policy
from safevlm_sdk.policy_parts import Override, SourceRules


def utc_today() -> datetime.date:
    """The day in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).date()


def active_overrides(policy: Policy, today: datetime.date) -> tuple[Override, ...]:
    """The overrides that have effect on a day: for each category the first that has not expired."""
    first: dict[str, Override] = {}
    for override in policy.overrides:
        if override.active(today):
            first.setdefault(override.category, override)
    return tuple(first.values())


def expired_overrides(policy: Policy, today: datetime.date) -> tuple[str, ...]:
    """A sentence on each override that no longer has effect."""
    return tuple(
        f"policy {policy.name!r}: expired, and without effect: {override.sentence}"
        for override in policy.overrides
        if not override.active(today)
    )


def effective_policy(policy: Policy, source: str | None, overrides: tuple[Override, ...]) -> Policy:
    """The general rules, with those of the source in their place, with the overrides in theirs.

    Args:
        policy: As it was written.
        source: Where the image comes from; the general rules hold for one that the policy does not name.
        overrides: Of `active_overrides`.
    """
    rules = SourceRules() if source is None else policy.sources.get(source, SourceRules())
    actions = {**policy.actions, **rules.actions}
    thresholds = {**policy.thresholds, **rules.thresholds}
    for override in overrides:
        if override.action is None:
            del actions[override.category]
            thresholds.pop(override.category, None)
        else:
            action = override.action
            actions[override.category] = LevelActions(low=action, medium=action, high=action)
    return msgspec.structs.replace(
        policy,
        actions=actions,
        thresholds=thresholds,
        any_threshold=policy.any_threshold if rules.any_threshold is None else rules.any_threshold,
        hints={category: hint for category, hint in policy.hints.items() if category in actions},
        sources={},
        overrides=(),
    )
