"""The gate in three graphs, for those who put another engine in the place of one: tower, projector, head."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from safevlm_export.graphs import EXAMPLE_BATCH, EXAMPLE_TOKENS, Source, encoder_source, risk_specs, token_count
from safevlm_export.reference import GARBAGE, Vectors, decided_arrays, head_inputs
from safevlm_sdk.manifest import PROJECTED_HEAD, SAFETY_PROJECTOR, VISION_ENCODER, TensorSpec
from safevlm_training.folded import FoldedModules, fold
from safevlm_training.modules import patch_attention
from safevlm_training.risk_model import RiskModel


class ProjectedHeadGraph(nn.Module):
    """Projected features to risk: the folded head without its projector."""

    def __init__(self, folded: FoldedModules) -> None:
        super().__init__()
        self.head = folded.head
        self.num_tokens = folded.config.num_tokens

    def forward(self, projected: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From [N, T, Ds] and mask bool [N, T] to type logits, level log-probabilities and attention."""
        attended, weights = self.head.attend(projected.masked_fill(~mask[:, :, None], 0.0), mask)
        types, levels = self.head.readout(attended)
        return types, levels, patch_attention(weights, self.num_tokens)


def component_sources(model: RiskModel) -> tuple[Source, Source, Source]:
    """The tower, the safety projector, and the head behind it."""
    return encoder_source(model), _projector_source(model), _projected_head_source(model)


def component_vectors(model: RiskModel, gate: Vectors) -> dict[str, Vectors]:
    """Role to vectors of the three graphs, for the images of the gate's vectors.

    The projector knows of no mask, so that what is masked is zero for it; for the head it is garbage.
    """
    padded, mask = head_inputs(model.config, gate.expected["features"])
    features = np.where(mask[..., None], padded, np.float32(0))
    with torch.inference_mode():
        projected = model.safety.projector(torch.from_numpy(features)).numpy().copy()
        output = model.safety(torch.from_numpy(features), torch.from_numpy(mask))
    seen = np.where(mask[..., None], projected, np.float32(GARBAGE))
    return {
        VISION_ENCODER: Vectors(inputs=gate.inputs, expected={"features": gate.expected["features"]}),
        SAFETY_PROJECTOR: Vectors(inputs={"features": features}, expected={"projected": projected}),
        PROJECTED_HEAD: Vectors(inputs={"projected": seen, "mask": mask}, expected=decided_arrays(output)),
    }


def _projector_source(model: RiskModel) -> Source:
    tokens, example = token_count(model.config)
    width = model.config.feature_width
    return Source(
        role=SAFETY_PROJECTOR,
        module=fold(model.safety).projector,
        examples=(torch.zeros(EXAMPLE_BATCH, example, width),),
        inputs=(TensorSpec(name="features", dtype="float32", shape=("batch", tokens, width)),),
        outputs=(_projected_spec(model, tokens),),
    )


def _projected_head_source(model: RiskModel) -> Source:
    # The head alone has no grid, whatever projector comes before it.
    return Source(
        role=PROJECTED_HEAD,
        module=ProjectedHeadGraph(fold(model.safety)).eval(),
        examples=(
            torch.zeros(EXAMPLE_BATCH, EXAMPLE_TOKENS, model.config.width),
            torch.ones(EXAMPLE_BATCH, EXAMPLE_TOKENS, dtype=torch.bool),
        ),
        inputs=(
            _projected_spec(model, "tokens"),
            TensorSpec(name="mask", dtype="bool", shape=("batch", "tokens")),
        ),
        outputs=risk_specs(model.config, "tokens"),
    )


def _projected_spec(model: RiskModel, tokens: int | str) -> TensorSpec:
    return TensorSpec(name="projected", dtype="float32", shape=("batch", tokens, model.config.width))
