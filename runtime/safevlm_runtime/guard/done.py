"""What is done about an image, where that is more than its verdict says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from safevlm_runtime.judging.worst import worst
from safevlm_sdk.actions import Action
from safevlm_sdk.verdict import Verdict


def done(verdict: Verdict, *, decoded: bool) -> Verdict:
    """The verdict of an image that was to go on; one that could not be decoded is blocked, whatever the policy says.

    So whoever is told of the verdict counts what happened, and not what `on_error` or observing would have liked.

    Args:
        verdict: Of the image.
        decoded: There are pixels that could go on.
    """
    if decoded or verdict.action is Action.BLOCK:
        return verdict
    return replace(
        verdict,
        action=Action.BLOCK,
        observed=None if verdict.observed is None else Action.BLOCK,
        safety_prompt="",
        reason=f"{verdict.reason}; blocked, for there is nothing of it that could go on",
    )


def refusal_of(verdicts: Sequence[Verdict]) -> str:
    """What a policy says in the place of the model; empty where none of the verdicts has a refusal."""
    texts = (worst(verdicts)[1].refusal, *(verdict.refusal for verdict in verdicts))
    return next((text for text in texts if text), "")
