"""Running a graph that takes a single row, or one image of any size, on several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safevlm_runtime.backends.backend import Backend, Tensors


class OneByOne:
    """A backend that runs each row of its inputs alone.

    Args:
        backend: Runs one row; it is closed with this one.
        batched: Whether a row keeps its first dimension, of size 1.
    """

    def __init__(self, backend: Backend, *, batched: bool = True) -> None:
        self._backend = backend
        self._batched = batched

    @property
    def provider(self) -> str:
        """See `Backend.provider`."""
        return self._backend.provider

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """See `Backend.run`."""
        rows = len(next(iter(inputs.values())))
        found = [
            self._backend.run({name: self._row(values, row) for name, values in inputs.items()}, outputs)
            for row in range(rows)
        ]
        return {name: np.concatenate([one[name] for one in found]) for name in outputs}

    def _row(self, values: NDArray[Any], row: int) -> NDArray[Any]:
        found: NDArray[Any] = values[row : row + 1] if self._batched else values[row]
        return found

    def close(self) -> None:
        """See `Backend.close`."""
        self._backend.close()
