"""What of an image is judged: every frame, over every background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from safevlm_runtime.gate import Judged, Pixels, Tensor
from safevlm_sdk.decision import Decision, fuse
from safevlm_sdk.raster import Frame


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """One picture to judge.

    Attributes:
        name: As "frame 2, black background"; empty when an image has one view.
        pixels: uint8 [H, W, 3].
        sha256: Digest of the frame that the view belongs to.
    """

    name: str
    pixels: Pixels
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """The worst that one gate found in one image."""

    decision: Decision
    attention: Tensor | None
    sha256: str


def views_of(frames: Sequence[Frame]) -> list[View]:
    """Every frame, and every background of a transparent one; frames are counted from 1."""
    views = []
    for number, frame in enumerate(frames, start=1):
        where = f"frame {number}" if len(frames) > 1 else ""
        readings = [("white" if frame.variants else "", frame.pixels), *frame.variants]
        for background, pixels in readings:
            name = ", ".join(part for part in (where, _reading(background)) if part)
            views.append(View(name=name, pixels=pixels, sha256=frame.sha256))
    return views


def worst_view(views: Sequence[View], judged: Sequence[Judged]) -> Found:
    """What follows from all views, named after the one that decides.

    Raises:
        ValueError: There is no view.
    """
    index, decision = fuse([one.decision for one in judged])
    view = views[index]
    named = replace(decision, reason=f"{view.name}: {decision.reason}") if view.name else decision
    return Found(decision=named, attention=judged[index].attention, sha256=view.sha256)


def _reading(background: str) -> str:
    if not background:
        return ""
    return "alpha dropped" if background == "alpha-dropped" else f"{background} background"
