"""Between which shapes an engine works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from safevlm_sdk.errors import EngineBuildError
from safevlm_sdk.manifest import Graph, Manifest
from safevlm_sdk.manifest_graphs import ShapeRange

# Smallest, usual and largest size of a dimension that varies.
Sizes = tuple[int, int, int]
BATCHES: Sizes = (1, 8, 32)

BATCH, TOKENS = "batch", "tokens"


def sizes_of(manifest: Manifest, batches: Sizes = BATCHES) -> dict[str, Sizes]:
    """Name of a dimension to its sizes, for the graphs of one bundle; a classifier has no tokens."""
    sizes = {BATCH: batches}
    if manifest.identity.grid is not None:
        tokens = manifest.identity.grid[0] * manifest.identity.grid[1]
        sizes[TOKENS] = (1, tokens, tokens)
    return sizes


def profile_of(graph: Graph, sizes: Mapping[str, Sizes]) -> dict[str, ShapeRange]:
    """Input name to its smallest, usual and largest shape.

    Raises:
        EngineBuildError: A dimension varies, and there are no sizes for it.
    """
    return {spec.name: _range(graph.id, spec.name, spec.shape, sizes) for spec in graph.inputs}


def varies(shapes: ShapeRange) -> bool:
    """Whether the three shapes differ."""
    return len(set(shapes)) > 1


def _range(graph: str, name: str, shape: Sequence[int | str], sizes: Mapping[str, Sizes]) -> ShapeRange:
    unknown = [size for size in shape if isinstance(size, str) and size not in sizes]
    if unknown:
        raise EngineBuildError(
            f"graph {graph}: {', '.join(unknown)} of {name} varies without bounds; an engine needs bounds, so this "
            "graph stays on ONNX Runtime"
        )
    bounds = [sizes[size] if isinstance(size, str) else (size, size, size) for size in shape]
    least, usual, most = (tuple(one[at] for one in bounds) for at in range(3))
    return least, usual, most
