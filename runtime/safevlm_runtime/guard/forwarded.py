"""What goes on to an engine over a wire: the judged pixels, encoded anew."""

from __future__ import annotations

from base64 import b64encode

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.raster import encode_png


def png_of(pixels: NDArray[np.uint8]) -> bytes:
    """RGB pixels [H, W, 3] as a PNG of one frame without metadata, which decodes to them bit for bit.

    Equal pixels give equal bytes, so that an engine's own cache of images works.

    Raises:
        ImageInput: The pixels are not uint8 RGB [H, W, 3].
    """
    return encode_png(pixels)


def data_url_of(pixels: NDArray[np.uint8]) -> str:
    """`png_of` as a data URL."""
    return f"data:image/png;base64,{b64encode(png_of(pixels)).decode('ascii')}"
