"""One verdict for several images: the worst of theirs; and what a model is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from safevlm_sdk.actions import Action
from safevlm_sdk.verdict import Verdict


def worst(verdicts: Sequence[Verdict], names: Sequence[str] | None = None) -> tuple[int, Verdict]:
    """What follows for a request from the verdicts on its images.

    The worst by (error, action, level, score) is taken, the first of equals, and its action is the hardest of all: an
    image on which the gate failed, with `on_error = "caution"`, does not undo another image's BLOCK.

    Args:
        verdicts: One per image.
        names: What the reason calls each; None for "image 1", "image 2" and so on. A single image needs no name.

    Returns:
        Index of the image that decides, and its verdict with its name before the reason.

    Raises:
        ValueError: There is no verdict: nothing was judged, which no caller may take for harmless.
    """
    if not verdicts:
        raise ValueError("no verdict to choose from: nothing was judged")
    if names is None:
        names = [f"image {number}" for number in range(1, len(verdicts) + 1)] if len(verdicts) > 1 else [""]
    if len(names) != len(verdicts):
        raise ValueError(f"{len(names)} names for {len(verdicts)} verdicts; give one for each")
    index = max(range(len(verdicts)), key=lambda number: _rank(verdicts[number]))
    chosen, name = verdicts[index], names[index]
    named = replace(chosen, reason=f"{name}: {chosen.reason}") if name else chosen
    hardest = max(verdicts, key=lambda verdict: verdict.action.severity)
    meant = max((_meant(verdict) for verdict in verdicts), key=lambda action: action.severity)
    if meant is _meant(chosen) and hardest.action is chosen.action:
        return index, named
    return index, replace(
        named,
        action=hardest.action,
        observed=None if all(verdict.observed is None for verdict in verdicts) else meant,
        safety_prompt=hardest.safety_prompt,
        refusal=hardest.refusal,
        reason=f"{named.reason}; {meant.value} because of another",
    )


def safety_note(verdicts: Sequence[Verdict]) -> str:
    """What the model is told of the images of one turn: the safety prompt of the worst; empty where none has one.

    A risk that was found speaks before an image on which the gate failed: its words are the stricter ones.
    """
    told = [verdict for verdict in verdicts if verdict.safety_prompt]
    worst_told = max(told, key=lambda one: (int(one.level or 0), one.score or 0.0), default=None)
    return "" if worst_told is None else worst_told.safety_prompt


def _meant(verdict: Verdict) -> Action:
    """What the policy says, be it done or only observed."""
    return verdict.action if verdict.observed is None else verdict.observed


def _rank(verdict: Verdict) -> tuple[bool, int, int, float]:
    return (verdict.error is not None, _meant(verdict).severity, int(verdict.level or 0), verdict.score or 0.0)
