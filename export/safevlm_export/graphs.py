"""What is exported: modules that take and return plain tensors, around the folded head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from safevlm_sdk.manifest import TensorSpec
from safevlm_sdk.taxonomy import RiskLevel
from safevlm_training.config import SafetyConfig
from safevlm_training.folded import FoldedModules, fold
from safevlm_training.risk_model import RiskModel

# More than one of everything that varies, and unlike any fixed size, so that tracing takes no size for a constant.
EXAMPLE_BATCH = 2
EXAMPLE_TOKENS = 37


class GateGraph(nn.Module):
    """Pixels to risk: tower and folded head."""

    def __init__(self, tower: nn.Module, folded: FoldedModules) -> None:
        super().__init__()
        self.tower = tower
        self.folded = folded

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """From normalised pixels [N, 3, H, W] to the tensors of `gate_outputs`, in that order."""
        features = self.tower(pixel_values)
        output = self.folded(features)
        decided = (output.type_logits, output.level_logprobs, output.attention, features)
        return decided if output.safety_embeddings is None else (*decided, output.safety_embeddings)


class HeadGraph(nn.Module):
    """Features to risk: the folded head, for callers whose tower already ran."""

    def __init__(self, folded: FoldedModules) -> None:
        super().__init__()
        self.folded = folded

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From features [N, T, D] and mask bool [N, T] to type logits, level log-probabilities and attention."""
        output = self.folded(features, mask)
        return output.type_logits, output.level_logprobs, output.attention


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """A module that is ready for export, with its interface.

    Attributes:
        role: "gate" or "safety_head".
        module: In eval mode, float32.
        examples: One example per input.
        inputs: In order; a named dimension varies.
        outputs: In order.
    """

    role: Literal["gate", "safety_head"]
    module: nn.Module
    examples: tuple[Tensor, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def gate_source(model: RiskModel) -> Source:
    """The graph from pixels to risk."""
    config, spec = model.config, model.config.preprocessing
    tokens = config.grid[0] * config.grid[1]
    outputs = [
        *_decision_specs(config, tokens),
        TensorSpec(name="features", dtype="float32", shape=("batch", tokens, config.feature_width)),
    ]
    if config.llm_width is not None:
        shape = ("batch", config.num_llm_tokens, config.llm_width)
        outputs.append(TensorSpec(name="safety_embeddings", dtype="float32", shape=shape))
    return Source(
        role="gate",
        module=GateGraph(model.tower, fold(model.safety)).eval(),
        examples=(torch.zeros(EXAMPLE_BATCH, 3, spec.height, spec.width),),
        inputs=(TensorSpec(name="pixel_values", dtype="float32", shape=("batch", 3, spec.height, spec.width)),),
        outputs=tuple(outputs),
    )


def head_source(model: RiskModel) -> Source:
    """The graph from features to risk; the number of tokens varies unless the projector has a fixed grid."""
    config = model.config
    fixed = None if config.projector == "mlp" else config.grid[0] * config.grid[1]
    tokens, example = ("tokens", EXAMPLE_TOKENS) if fixed is None else (fixed, fixed)
    return Source(
        role="safety_head",
        module=HeadGraph(fold(model.safety)).eval(),
        examples=(
            torch.zeros(EXAMPLE_BATCH, example, config.feature_width),
            torch.ones(EXAMPLE_BATCH, example, dtype=torch.bool),
        ),
        inputs=(
            TensorSpec(name="features", dtype="float32", shape=("batch", tokens, config.feature_width)),
            TensorSpec(name="mask", dtype="bool", shape=("batch", tokens)),
        ),
        outputs=_decision_specs(config, tokens),
    )


def _decision_specs(config: SafetyConfig, tokens: int | str) -> tuple[TensorSpec, ...]:
    return (
        TensorSpec(name="type_logits", dtype="float32", shape=("batch", len(config.labels))),
        TensorSpec(name="level_logprobs", dtype="float32", shape=("batch", len(RiskLevel))),
        TensorSpec(name="attention", dtype="float32", shape=("batch", tokens)),
    )
