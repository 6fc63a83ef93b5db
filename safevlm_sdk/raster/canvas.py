"""Animation frames from the rectangles that a file stores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from PIL import Image

from safevlm_sdk.raster.limits import Size


class Dispose(Enum):
    """What happens to a frame's rectangle before the next frame is drawn."""

    KEEP = 0
    CLEAR = 1
    RESTORE = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patch:
    """What one frame draws: an image of mode L, RGB or RGBA at (left, top), over or instead of what is there."""

    image: Image.Image
    at: tuple[int, int]
    over: bool
    dispose: Dispose


def compose(size: Size, patches: Iterable[Patch]) -> Iterator[Image.Image]:
    """Draw frames one after the other on a transparent canvas.

    Yields:
        The RGBA canvas itself, which is drawn over once the next frame is asked for.
    """
    canvas: Image.Image | None = None
    for patch in patches:
        canvas = Image.new("RGBA", size) if canvas is None else canvas
        before = canvas.copy() if patch.dispose is Dispose.RESTORE else canvas
        image = patch.image.convert("RGBA")
        if patch.over:
            canvas.alpha_composite(image, patch.at)
        else:
            canvas.paste(image, patch.at)
        yield canvas
        if patch.dispose is Dispose.CLEAR:
            canvas.paste((0, 0, 0, 0), (*patch.at, patch.at[0] + image.width, patch.at[1] + image.height))
        canvas = before
