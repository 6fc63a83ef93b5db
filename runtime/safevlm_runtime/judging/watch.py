"""One camera: frames that follow one another, and vote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from safevlm_runtime.judging.fusion import Acting, Adjust
from safevlm_sdk.actions import Action, hardest
from safevlm_sdk.hysteresis import held_action
from safevlm_sdk.policy import Hysteresis
from safevlm_sdk.verdict import Verdict

Voting = Callable[[Hysteresis], Adjust]
CheckFrame = Callable[[NDArray[np.uint8], Voting], Verdict]


class Watch:
    """Judges the frames of one camera, in their order, by one thread at a time; get it from `Runtime.watch`.

    Every frame votes with the action that it calls for by itself; a verdict's action is the hardest that at least `k`
    of the last `n` frames call for (`held_action`), be it softer or harder than the frame's own. A frame on which the
    gate failed votes like any other, and is acted upon at once. Category, level and score stay the frame's own.
    """

    def __init__(self, check: CheckFrame) -> None:
        self._check = check
        self._done: list[Action] = []
        self._meant: list[Action] = []

    def check_frame(self, array: NDArray[np.uint8]) -> Verdict:
        """Judges the next frame.

        Args:
            array: uint8 RGB [H, W, 3]; leave it alone until the verdict is there.

        Returns:
            The frame's verdict with the action that the last frames call for together.
        """
        return self._check(array, lambda rule: partial(self._held, rule))

    def _held(self, rule: Hysteresis, acting: Acting) -> Acting:
        observed = acting.observed
        own = acting.action if observed is None else observed
        action = _voted(self._done, acting.action, rule, failed=acting.failed)
        meant = _voted(self._meant, own, rule, failed=acting.failed)
        changed = f"; {own.value} by itself, {meant.value} by {rule.k} of {rule.n} frames" if meant is not own else ""
        return replace(
            acting,
            action=action,
            observed=None if observed is None else meant,
            reason=f"{acting.reason}{changed}",
        )


def _voted(votes: list[Action], own: Action, rule: Hysteresis, *, failed: bool) -> Action:
    """What applies after one more vote; votes that count no longer are dropped."""
    votes.append(own)
    del votes[: -rule.n]
    held = held_action(votes, rule)
    return hardest([held, own]) if failed else held
