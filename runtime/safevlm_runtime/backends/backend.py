"""What runs a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.errors import OutputShape
from safevlm_sdk.manifest import Graph, TensorSpec

Tensors = Mapping[str, NDArray[Any]]


class Backend(Protocol):
    """One graph, ready to run, from any thread."""

    @property
    def provider(self) -> str:
        """The execution provider in use."""

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Runs the graph once.

        Args:
            inputs: Input name to array.
            outputs: Names of the outputs that are wanted.

        Raises:
            EngineTimeout: It took longer than the limit.
            OutputShape: An output has another shape or dtype than the manifest states.
            EngineError: Anything else failed.
        """

    def close(self) -> None:
        """Gives its memory back; later runs raise EngineError."""


def check_outputs(graph: Graph, inputs: Tensors, outputs: Tensors) -> None:
    """Compares outputs with the manifest; equal names of dimensions must be equal numbers.

    Raises:
        OutputShape: An output does not fit.
    """
    sizes: dict[str, int] = {}
    for spec in graph.inputs:
        sizes.update(_named_sizes(spec, inputs[spec.name]))
    specs = {spec.name: spec for spec in graph.outputs}
    for name, values in outputs.items():
        spec = specs[name]
        wanted = tuple(sizes.get(size, size) if isinstance(size, str) else size for size in spec.shape)
        fits = len(wanted) == values.ndim and all(
            size == found for size, found in zip(wanted, values.shape, strict=True) if isinstance(size, int)
        )
        if not fits or values.dtype != np.dtype(spec.dtype):
            raise OutputShape(f"output {name} is {values.dtype} {values.shape}; {spec.dtype} {wanted} was stated")


def _named_sizes(spec: TensorSpec, values: NDArray[Any]) -> dict[str, int]:
    return {size: found for size, found in zip(spec.shape, values.shape, strict=True) if isinstance(size, str)}
