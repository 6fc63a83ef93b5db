"""Vision features that a caller's own tower already computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VisionFeatures:
    """One image's patch features, to be judged without running a tower again.

    Attributes:
        array: float32 [T, D], patch tokens in row-major order of the grid, without CLS or register tokens.
        grid: (rows, columns) with rows * columns == T.
        tower_digest: Digest of the tower's weights; it must be the bundle's.
        tap: Where the features were taken, such as "hidden:-2"; it must be the bundle's.
        raster_sha256: Digest of the raster that the tower saw (`safevlm_sdk.raster.raster_digest`).
    """

    array: NDArray[np.float32]
    grid: tuple[int, int]
    tower_digest: str
    tap: str
    raster_sha256: str
