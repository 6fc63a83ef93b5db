"""How much a graph may differ from its golden values on another machine."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

HEADROOM = 20.0
FLOOR = 1e-4


def tolerances(
    expected: Mapping[str, NDArray[np.float32]], found: Mapping[str, NDArray[np.float32]], proven: Mapping[str, float]
) -> dict[str, float]:
    """Output name to the largest absolute difference that the self-test accepts.

    Other processors and other releases of an engine round otherwise: 20 times the largest error seen here, and at
    least 1e-4 of the largest golden value (or of 1).

    Args:
        expected: Golden values.
        found: What the graph gave for them here.
        proven: Largest error per output on the proof images.
    """
    allowed = {}
    for name, values in expected.items():
        seen = max(float(np.abs(found[name].astype(np.float64) - values).max()), proven[name])
        allowed[name] = max(HEADROOM * seen, FLOOR * max(1.0, float(np.abs(values).max())))
    return allowed
