"""What is exported: modules that take and return plain tensors, around the folded head."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from safevlm_sdk.manifest import GATE, SAFETY_HEAD, VISION_ENCODER, Role, TensorSpec
from safevlm_sdk.taxonomy import RiskLevel
from safevlm_training.config import SafetyConfig
from safevlm_training.folded import FoldedModules, fold
from safevlm_training.risk_model import RiskModel

# More than one of everything that varies, and unlike any fixed size, so that tracing takes no size for a constant.
EXAMPLE_BATCH = 2
EXAMPLE_TOKENS = 37


class RiskGraph(nn.Module):
    """Features to risk: the folded head, with or without the safety embeddings."""

    def __init__(self, folded: FoldedModules, *, embeddings: bool) -> None:
        super().__init__()
        self.folded = folded
        self.embeddings = embeddings

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """From features [N, T, D] and mask bool [N, T] to logits, levels, attention and perhaps embeddings."""
        output = self.folded(features, mask)
        decided = (output.type_logits, output.level_logprobs, output.attention)
        if not self.embeddings or output.safety_embeddings is None:
            return decided
        return *decided, output.safety_embeddings


class GateGraph(nn.Module):
    """Pixels to risk: tower and folded head."""

    def __init__(self, tower: nn.Module, risk: RiskGraph) -> None:
        super().__init__()
        self.tower = tower
        self.risk = risk

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """From normalised pixels [N, 3, H, W] to what the head says and then what the tower says."""
        seen = self.tower(pixel_values)
        features = (seen,) if isinstance(seen, Tensor) else seen
        return *self.risk(features[0]), *features


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """A module that is ready for export, with its interface.

    Attributes:
        role: What the graph is for.
        module: In eval mode, float32.
        examples: One example per input.
        inputs: In order; a named dimension varies.
        outputs: In order.
        in_two: The same graph in two parts, of which the first is the tower; None where there is no tower in it.
        repeats: The module computes some things twice, which the graph shall compute once.
    """

    role: Role
    module: nn.Module
    examples: tuple[Tensor, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    in_two: tuple[Source, Source | None] | None = None
    repeats: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embeddings:
    """What a gate gives to the engine of a language model, beside its decision.

    Attributes:
        tower: Pixels [N, 3, H, W] to features and image embeddings; None where the tower belongs to no
            vision-language model, so that there are safety embeddings alone.
        outputs: What the tower gives after the features.
    """

    tower: nn.Module | None
    outputs: tuple[TensorSpec, ...]


def gate_source(model: RiskModel, embeddings: Embeddings | None = None) -> Source:
    """The graph from pixels to risk; with `embeddings`, to what the engine of a language model takes, too."""
    config = model.config
    risk = RiskGraph(fold(model.safety), embeddings=embeddings is not None).eval()
    encoder = encoder_source(model, embeddings)
    tokens = config.grid[0] * config.grid[1]
    decided = risk_specs(config, tokens)
    if embeddings is not None and config.llm_width is not None:
        shape = ("batch", config.num_llm_tokens, config.llm_width)
        decided += (TensorSpec(name="safety_embeddings", dtype="float32", shape=shape),)
    head = Source(
        role=GATE,
        module=risk,
        examples=(torch.zeros(EXAMPLE_BATCH, tokens, config.feature_width),),
        inputs=encoder.outputs[:1],
        outputs=decided,
    )
    return Source(
        role=GATE,
        module=GateGraph(encoder.module, risk).eval(),
        examples=encoder.examples,
        inputs=encoder.inputs,
        outputs=(*decided, *encoder.outputs),
        in_two=(encoder, head),
        repeats=encoder.repeats,
    )


def encoder_source(model: RiskModel, embeddings: Embeddings | None = None) -> Source:
    """The graph from pixels to features: the tower, tapped."""
    config, spec = model.config, model.config.preprocessing
    shape = ("batch", config.grid[0] * config.grid[1], config.feature_width)
    outputs: tuple[TensorSpec, ...] = (TensorSpec(name="features", dtype="float32", shape=shape),)
    tower: nn.Module = model.tower
    if embeddings is not None and embeddings.tower is not None:
        tower, outputs = embeddings.tower, (*outputs, *embeddings.outputs)
    source = Source(
        role=VISION_ENCODER,
        module=tower.eval(),
        examples=(torch.zeros(EXAMPLE_BATCH, 3, spec.height, spec.width),),
        inputs=(TensorSpec(name="pixel_values", dtype="float32", shape=("batch", 3, spec.height, spec.width)),),
        outputs=outputs,
        repeats=len(outputs) > 1,
    )
    return replace(source, in_two=(source, None))


def head_source(model: RiskModel) -> Source:
    """The graph from features to risk, for callers whose tower already ran."""
    tokens, example = token_count(model.config)
    return Source(
        role=SAFETY_HEAD,
        module=RiskGraph(fold(model.safety), embeddings=False).eval(),
        examples=(
            torch.zeros(EXAMPLE_BATCH, example, model.config.feature_width),
            torch.ones(EXAMPLE_BATCH, example, dtype=torch.bool),
        ),
        inputs=(
            TensorSpec(name="features", dtype="float32", shape=("batch", tokens, model.config.feature_width)),
            TensorSpec(name="mask", dtype="bool", shape=("batch", tokens)),
        ),
        outputs=risk_specs(model.config, tokens),
    )


def token_count(config: SafetyConfig) -> tuple[int | str, int]:
    """The number of tokens of graphs that begin behind the tower, and an example of it.

    It varies unless the projector has a fixed grid.
    """
    if config.projector == "mlp":
        return "tokens", EXAMPLE_TOKENS
    fixed = config.grid[0] * config.grid[1]
    return fixed, fixed


def risk_specs(config: SafetyConfig, tokens: int | str) -> tuple[TensorSpec, ...]:
    """The outputs of every graph that decides."""
    return (
        TensorSpec(name="type_logits", dtype="float32", shape=("batch", len(config.labels))),
        TensorSpec(name="level_logprobs", dtype="float32", shape=("batch", len(RiskLevel))),
        TensorSpec(name="attention", dtype="float32", shape=("batch", tokens)),
    )
