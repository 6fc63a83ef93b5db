"""Reads what an image-classification pipeline returns."""

from __future__ import annotations

import math
from typing import Any

from line_protocol import NoAnswer


def read(found: Any) -> tuple[None, Any]:
    """Labels with their probabilities; random weights flag nothing."""
    scores = [entry["score"] for entry in found]
    if not math.isclose(sum(scores), 1, abs_tol=1e-3):
        raise NoAnswer(f"it returned {found!r} instead of probabilities")
    return None, [[entry["label"], entry["score"]] for entry in found]
