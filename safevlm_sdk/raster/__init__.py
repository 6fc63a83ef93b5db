"""Decoding of untrusted images into canonical RGB rasters: what is judged is what goes on."""

from safevlm_sdk.raster.canonical import Frame, Raster, capped, from_array, raster_digest
from safevlm_sdk.raster.decode import decode
from safevlm_sdk.raster.isolated import IsolatedDecoder
from safevlm_sdk.raster.limits import DEFAULT_LIMITS, Limits
from safevlm_sdk.raster.source import ImageSource, read_source
from safevlm_sdk.raster.to_png import encode_png

__all__ = [
    "DEFAULT_LIMITS",
    "Frame",
    "ImageSource",
    "IsolatedDecoder",
    "Limits",
    "Raster",
    "capped",
    "decode",
    "encode_png",
    "from_array",
    "raster_digest",
    "read_source",
]
