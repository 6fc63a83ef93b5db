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
