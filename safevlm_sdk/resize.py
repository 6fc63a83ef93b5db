"""The one resize between an image and what is judged, with the same bits under every Pillow.

Pillow resizes in two passes, one along the rows and one along the columns, and rounds and clips to uint8 after each,
so their order shows in the result, by up to tens of grey levels. Up to 12.x it begins along the rows, and since 13.0
sometimes along the columns. Thresholds are measured on one of the two pictures, so each pass is called for here, in
the order of 13.0, which transformers' PIL processors then give too.
"""

from __future__ import annotations

from PIL import Image


def vertical_first(size: tuple[int, int], resized: tuple[int, int]) -> bool:
    """Whether the height changes before the width, from one (width, height) to another.

    It does if rows are lost, and more than twice as many as columns.
    """
    columns_lost, rows_lost = size[0] - resized[0], size[1] - resized[1]
    return rows_lost > max(0, 2 * columns_lost)


def resize(image: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    """Resize an L or RGB image to (width, height); one of that size already is returned as it is."""
    width, height = size
    halfway = (image.width, height) if vertical_first(image.size, size) else (width, image.height)
    for step in (halfway, size):
        if image.size != step:
            image = image.resize(step, resample)
    return image
