"""At which scale a gate looks."""

from __future__ import annotations

from typing import Final

from safevlm_sdk.preprocess import Preprocessing
from safevlm_sdk.strict import Strict

MAX_SIDE: Final = 65_536
MAX_VIEWS: Final = 1_024


class ViewPlan(Strict, frozen=True):
    """The views of one frame over one background: the overview, and tiles that cover every pixel.

    Attributes:
        raster_max_side: Longer side, in pixels, of the canonical raster; larger images are shrunk to it.
        tile: Side of a tile in pixels, or None for the overview alone.
        overlap: Pixels that neighbouring tiles share at least; what is no larger lies whole in some tile.
        max_views: Most views, the overview included; a frame that takes more is refused.
    """

    raster_max_side: int
    tile: int | None
    overlap: int
    max_views: int

    def __post_init__(self) -> None:
        if not 1 <= self.raster_max_side <= MAX_SIDE or self.overlap < 0 or not 1 <= self.max_views <= MAX_VIEWS:
            raise ValueError(
                f"view_plan needs raster_max_side in 1 to {MAX_SIDE}, overlap >= 0 and max_views in 1 to {MAX_VIEWS}"
            )
        if self.tile is None and (self.overlap, self.max_views) != (0, 1):
            raise ValueError("view_plan without a tile is the overview alone: overlap is 0 and max_views is 1")
        if self.tile is not None and not (self.overlap < self.tile and self.max_views > 1):
            raise ValueError(
                f"view_plan of tile {self.tile}, overlap {self.overlap} and max_views {self.max_views}: the overlap "
                "must be smaller than the tile, and there must be more than one view"
            )


def check_edges(plan: ViewPlan, spec: Preprocessing) -> None:
    """Refuse tiles whose edges the preprocessing would cut off: they would leave holes.

    Raises:
        ValueError: It would.
    """
    if plan.tile is not None and spec.resize == "shortest_edge" and {spec.height, spec.width} != {spec.shortest_edge}:
        raise ValueError(
            f"view_plan has tiles, but the preprocessing shrinks a square to {spec.shortest_edge} and keeps the "
            f"middle {spec.height} x {spec.width}: the edges of each tile would not be seen"
        )
