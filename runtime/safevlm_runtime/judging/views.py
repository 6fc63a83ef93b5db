"""What of an image is judged: every frame, over every background, as a whole and in tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from safevlm_runtime.judging.gate import Judged, Pixels, Tensor
from safevlm_runtime.judging.tiles import Box, scaled_box, tile_boxes
from safevlm_sdk.decision import Decision, fuse
from safevlm_sdk.raster import Frame
from safevlm_sdk.raster.canonical import capped_size
from safevlm_sdk.view_plan import ViewPlan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """One picture to judge.

    Attributes:
        name: As "frame 2, black background, tile 3 of 12 at (512, 0)"; empty when an image has one view.
        pixels: uint8 [H, W, 3], the whole picture.
        sha256: Digest of the frame that the view belongs to.
        frame: Its number, from 1.
        background: "white", "black", "grey" or "alpha-dropped"; None for an opaque frame.
        box: The tile that is judged, at the scale of the gate's view plan; None for the whole picture.
        region: The same in pixels of `pixels`.
    """

    name: str
    pixels: Pixels
    sha256: str
    frame: int
    background: str | None
    box: Box | None = None
    region: Box | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """The worst that one gate found in one image, and in which region of which frame.

    Attributes:
        decision: What follows from all views, named after the one that decides.
        attention: Of that one.
        sha256: Of its frame.
        region: Its tile, in pixels of the raster.
        views: Every view with its own decision; empty for features.
        index: Of the view that decides.
    """

    decision: Decision
    attention: Tensor | None
    sha256: str
    region: Box | None = None
    views: tuple[tuple[View, Decision], ...] = ()
    index: int = 0


def views_of(frames: Sequence[Frame]) -> list[View]:
    """Every frame, and every background of a transparent one; frames are counted from 1."""
    views = []
    for number, frame in enumerate(frames, start=1):
        where = f"frame {number}" if len(frames) > 1 else ""
        readings = [("white" if frame.variants else None, frame.pixels), *frame.variants]
        for background, pixels in readings:
            name = ", ".join(part for part in (where, _reading(background)) if part)
            views.append(View(name=name, pixels=pixels, sha256=frame.sha256, frame=number, background=background))
    return views


def with_tiles(view: View, plan: ViewPlan, *, square: bool) -> list[View]:
    """A whole picture, and the tiles that cover it at the scale of a view plan.

    Raises:
        ImageTooManyViews: Covering it takes more views than the plan allows.
    """
    height, width = view.pixels.shape[:2]
    scale = capped_size((width, height), plan.raster_max_side)
    boxes = tile_boxes(scale, plan, square=square)
    views = [view]
    for number, box in enumerate(boxes, start=1):
        region = scaled_box(box, scale, (width, height))
        tile = f"tile {number} of {len(boxes)} at ({region[0]}, {region[1]})"
        name = f"{view.name}, {tile}" if view.name else tile
        views.append(replace(view, name=name, box=box, region=region))
    return views


def worst_view(views: Sequence[View], judged: Sequence[Judged]) -> Found:
    """What follows from all views, named after the one that decides.

    Raises:
        ValueError: There is no view, or one was not judged.
    """
    if len(views) != len(judged):
        raise ValueError(f"{len(judged)} of {len(views)} views were judged")
    index, decision = fuse([one.decision for one in judged])
    view = views[index]
    named = replace(decision, reason=f"{view.name}: {decision.reason}") if view.name else decision
    return Found(
        decision=named,
        attention=judged[index].attention,
        sha256=view.sha256,
        region=view.region,
        views=tuple((one, of_one.decision) for one, of_one in zip(views, judged, strict=True)),
        index=index,
    )


def _reading(background: str | None) -> str:
    if background is None:
        return ""
    return "alpha dropped" if background == "alpha-dropped" else f"{background} background"
