"""A verdict, together with the only pixels that may go on."""

from __future__ import annotations

from dataclasses import dataclass

from safevlm_sdk.raster import Raster
from safevlm_sdk.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Screening:
    """One image, decoded once and judged.

    Attributes:
        verdict: What follows.
        raster: What was judged. `raster.frames[0].pixels` is what may go on to an engine. None when the image could
            not be decoded: then nothing of it goes on, whatever the verdict's action.
    """

    verdict: Verdict
    raster: Raster | None
