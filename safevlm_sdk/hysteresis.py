"""k of n: what a camera's last frames call for together."""

from __future__ import annotations

from collections.abc import Sequence

from safevlm_sdk.actions import Action
from safevlm_sdk.policy_parts import Hysteresis

ALONE = Hysteresis(k=1, n=1)


def held_action(votes: Sequence[Action], rule: Hysteresis) -> Action:
    """The hardest action that at least `k` of the last `n` frames call for; who calls for more calls for less, too.

    Args:
        votes: What each frame calls for by itself, the latest last; those before the last `n` do not count. Frames
            that were not seen yet call for nothing.
        rule: k and n.

    Returns:
        ALLOW where fewer than `k` frames call for more.
    """
    latest = sorted(votes[-rule.n :], key=lambda action: action.severity, reverse=True)
    return latest[rule.k - 1] if len(latest) >= rule.k else Action.ALLOW
