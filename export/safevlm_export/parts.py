"""Which graphs are made of a checkpoint beside the gate and the safety head, and what the checkpoint says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safevlm_export.components import component_sources, component_vectors
from safevlm_export.graphs import Embeddings, Source, gate_source, head_source
from safevlm_export.reference import Reference, Vectors, reference_vectors
from safevlm_export.rgb_graph import OUTPUTS, RGB
from safevlm_sdk.manifest import GATE, RGB_GATE
from safevlm_training.risk_model import RiskModel


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """What is exported beside the gate and the safety head.

    Attributes:
        embeddings: What the gate gives to the engine of a language model; None for nothing.
        components: The gate in three graphs.
        rgb: The gate with its preprocessing inside.
    """

    embeddings: Embeddings | None = None
    components: bool = False
    rgb: bool = False


def sources_of(model: RiskModel, parts: Parts) -> tuple[Source, ...]:
    """What PyTorch exports, the gate first."""
    components = component_sources(model) if parts.components else ()
    return gate_source(model, parts.embeddings), head_source(model), *components


def reference_of(model: RiskModel, parts: Parts) -> Reference:
    """What the checkpoint says of images, for every graph that is made of it."""

    def reference(rasters: Sequence[NDArray[np.uint8]]) -> dict[str, Vectors]:
        vectors = reference_vectors(model, rasters, parts.embeddings)
        gate = vectors[GATE]
        if parts.components:
            vectors |= component_vectors(model, gate)
        if parts.rgb:
            images = np.empty(len(rasters), dtype=object)
            for row, raster in enumerate(rasters):  # a slice would stack images of one size
                images[row] = raster
            vectors[RGB_GATE] = Vectors(
                inputs={RGB: images}, expected={name: gate.expected[name] for name in OUTPUTS}
            )
        return vectors

    return reference
