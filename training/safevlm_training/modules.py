"""The trainable part of SafeVLM: projector, tokens and head, from the tower's features to a risk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from safevlm_sdk.errors import TrainingError
from safevlm_training.config import SafetyConfig
from safevlm_training.head import SafetyHead
from safevlm_training.projector import build_projector
from safevlm_training.tokens import SafetyTokens, build_llm_tokens


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SafetyOutput:
    """What the safety modules say of N images.

    Attributes:
        type_logits: [N, C + 1], in the order of `SafetyConfig.labels`.
        level_logprobs: [N, 4], log-probabilities of none, low, medium, high.
        attention: [N, T] over the patches, mean over heads and queries, summing to 1; zero where masked.
        safety_embeddings: [N, K, Dllm] for the LLM, or None when no LLM takes part.
    """

    type_logits: Tensor
    level_logprobs: Tensor
    attention: Tensor
    safety_embeddings: Tensor | None


class SafetyModules(nn.Module):
    """Projector, safety tokens and safety head.

    Args:
        config: Sizes and parts.
        bos_embedding: [Ds], the LLM's embedding of its first token: the paper preset's query, else drawn at random.
    """

    def __init__(self, config: SafetyConfig, *, bos_embedding: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.projector = build_projector(config)
        self.tokens = SafetyTokens(config.num_tokens, config.width)
        self.head = SafetyHead(config, bos_embedding)
        self.llm_tokens = build_llm_tokens(config)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> SafetyOutput:
        """Judges features [N, T, Dv]; `mask` is bool [N, T], True where a patch is valid.

        Raises:
            TrainingError: A row of the mask has no valid patch.
        """
        features = mask_features(features, mask)
        tokens = self.tokens(features)
        keys = torch.cat([tokens, self.projector(features)], dim=1)
        if mask is not None:
            mask = torch.cat([mask.new_ones(tokens.shape[:2]), mask], dim=1)
        attended, weights = self.head.attend(keys, mask)
        types, levels = self.head.readout(attended)
        return SafetyOutput(
            type_logits=types,
            level_logprobs=levels,
            attention=patch_attention(weights, self.config.num_tokens),
            safety_embeddings=None if self.llm_tokens is None else self.llm_tokens(attended),
        )


def mask_features(features: Tensor, mask: Tensor | None) -> Tensor:
    """Features with zeros where the mask is False, so that nothing there, not even NaN, reaches the result.

    Raises:
        TrainingError: A row of the mask has no valid patch. An exported graph cannot say so: its caller must.
    """
    if mask is None:
        return features
    if not torch.compiler.is_compiling() and not bool(mask.any(dim=1).all()):
        rows = (~mask.any(dim=1)).nonzero().flatten().tolist()
        raise TrainingError(f"mask: rows {rows} have no valid patch; drop these images before the safety modules")
    return features.masked_fill(~mask[:, :, None], 0.0)


def patch_attention(weights: Tensor, num_tokens: int) -> Tensor:
    """Attention [N, heads, Q, tokens + T] as one map [N, T] that sums to 1.

    All zeros when every weight on the patches is too small for the dtype.
    """
    patches = weights[..., num_tokens:].mean(dim=(1, 2))
    return patches / patches.sum(dim=1, keepdim=True).clamp_min(torch.finfo(patches.dtype).tiny)
