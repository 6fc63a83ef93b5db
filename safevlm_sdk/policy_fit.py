"""Does a policy fit what gates see? Asked before work starts, and again when bundles are loaded."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from safevlm_sdk.errors import PolicyError, PolicyUncovered
from safevlm_sdk.policy import Policy


def require_judged(policy: Policy, covered: Sequence[str], *, whose: str) -> None:
    """Checks that a policy wants something that one gate covers.

    Args:
        policy: The one that the gate is to decide under.
        covered: Risks that the gate sees.
        whose: Names the gate in the message, as "the checkpoint".

    Raises:
        PolicyError: It wants nothing of that; the message says which option takes another policy.
    """
    if not set(covered) & set(policy.actions):
        raise PolicyError(
            f"nothing would be judged: {whose} covers {', '.join(covered)}, and policy {policy.name!r} wants "
            f"{', '.join(sorted(policy.actions))}; pass --policy FILE, a policy with [actions.{covered[0]}]"
        )


def unknown_source(source: str | None, known: Sequence[str]) -> str | None:
    """A warning for whoever names a source that no policy has rules for; None where there is nothing to say."""
    if source is None or source in known:
        return None
    has = f"it has {', '.join(known)}" if known else "it has none"
    return f"the policy has no source {source!r} ({has}), so that its general rules hold: look at --source"


def wanted_elsewhere(policy: Policy, covered: Collection[str], known: Collection[str]) -> tuple[str, ...]:
    """What a policy wants and no gate covers, sorted.

    Args:
        policy: For all of the gates.
        covered: Risks that some gate sees.
        known: Every category of their taxonomies.

    Raises:
        PolicyError: It names a category that no taxonomy has.
        PolicyUncovered: It refuses to leave a category uncovered.
    """
    strange = sorted(set(policy.actions) - set(known))
    if strange:
        raise PolicyError(
            f"policy {policy.name!r} names {', '.join(strange)}, and no taxonomy here has that (known: "
            f"{', '.join(sorted(known))}); load the bundle whose taxonomy has it as well, or take "
            f"{', '.join(f'[actions.{name}]' for name in strange)} out of the policy"
        )
    missing = policy.uncovered_by(covered)
    if missing and policy.uncovered == "refuse":
        raise PolicyUncovered(
            f"policy {policy.name!r} wants {', '.join(missing)}, which no loaded bundle covers; load one that "
            "does, remove the category, or say uncovered = 'caution' or 'allow'"
        )
    return missing
