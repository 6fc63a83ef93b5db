"""Which rectangles of a picture are judged besides the whole: tiles that leave no pixel out."""

from __future__ import annotations

from typing import TypeAlias

from safevlm_sdk.errors import ImageTooManyViews
from safevlm_sdk.preprocess import Preprocessing
from safevlm_sdk.raster.limits import Size
from safevlm_sdk.view_plan import ViewPlan

Box: TypeAlias = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels; right and bottom lie outside."""


def tile_boxes(size: Size, plan: ViewPlan, *, square: bool) -> list[Box]:
    """The tiles of a picture, row by row; none where one tile would be the whole picture.

    Tiles lie evenly, so that neighbours share at least the plan's overlap. A picture that is narrower than a tile has
    tiles as narrow as itself; where they are square and so smaller, they overlap by the same share of their side.

    Args:
        size: (width, height) of the picture at the scale of the plan.
        plan: Its `tile` may be None: then there are none.
        square: Tiles must be square, because the preprocessing shows the middle square of a picture only.

    Raises:
        ImageTooManyViews: Covering the picture takes more than `max_views`, the overview included.
    """
    if plan.tile is None:
        return []
    across, down = (min(plan.tile, side) for side in size)
    if square:
        across = down = min(across, down)
    columns, rows = (
        _count(length, side, plan.overlap * side // plan.tile)
        for length, side in zip(size, (across, down), strict=True)
    )
    if columns * rows == 1:
        return []
    if columns * rows + 1 > plan.max_views:
        raise ImageTooManyViews(
            f"the picture, {size[0]} x {size[1]}, takes {columns * rows + 1} views of tile {plan.tile} and overlap "
            f"{plan.overlap}; up to {plan.max_views} are judged: resize it, or cut it into pieces"
        )
    lefts, tops = _starts(size[0], across, columns), _starts(size[1], down, rows)
    return [(left, top, left + across, top + down) for top in tops for left in lefts]


def needs_square(preprocessing: Preprocessing) -> bool:
    """Whether the preprocessing shows the middle square of a picture only."""
    return preprocessing.resize == "shortest_edge"


def scaled_box(box: Box, source: Size, target: Size) -> Box:
    """The smallest box of a picture of size `target` that holds a box of the same picture at size `source`."""
    left, top, right, bottom = box
    (from_width, from_height), (width, height) = source, target
    return (
        left * width // from_width,
        top * height // from_height,
        -(-right * width // from_width),
        -(-bottom * height // from_height),
    )


def _count(length: int, side: int, overlap: int) -> int:
    """How many tiles of a side cover a length."""
    return 1 - (side - length) // (side - overlap)


def _starts(length: int, side: int, count: int) -> list[int]:
    """Evenly spread starts; the first is 0 and the last tile ends where the picture does."""
    return [(length - side) * number // max(1, count - 1) for number in range(count)]
