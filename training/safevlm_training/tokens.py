"""Safety tokens: learned rows beside the features for the head, and what an LLM is shown."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from safevlm_training.config import SafetyConfig

TOKEN_STD = 0.02


class SafetyTokens(nn.Module):
    """A learned set of `count` rows, the same for every image; drawn from N(0, 0.02)."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.empty(count, width))
        nn.init.normal_(self.rows, std=TOKEN_STD)

    def forward(self, like: Tensor) -> Tensor:
        """The rows once per image of `like` [N, …]: [N, count, width]."""
        return self.rows.unsqueeze(0).expand(like.shape[0], -1, -1)


class AttendedTokens(nn.Module):
    """Safety tokens that say what was seen: the head's attended outputs [N, Q, Ds] -> [N, K, Dllm]."""

    def __init__(self, config: SafetyConfig, llm_width: int) -> None:
        super().__init__()
        self.shape = (config.num_llm_tokens, config.width)
        self.mix = nn.Linear(config.num_queries * config.width, config.num_llm_tokens * config.width)
        self.act = nn.GELU()
        self.leave = nn.Linear(config.width, llm_width)
        nn.init.normal_(self.leave.weight, std=TOKEN_STD)

    def forward(self, attended: Tensor) -> Tensor:
        """Embeddings [N, K, Dllm] of attended outputs [N, Q, Ds]."""
        mixed = torch.unflatten(self.act(self.mix(attended.flatten(1))), 1, self.shape)
        embeddings: Tensor = self.leave(mixed)
        return embeddings


def build_llm_tokens(config: SafetyConfig) -> nn.Module | None:
    """From attended outputs [N, Q, Ds] to safety embeddings [N, K, Dllm]; None when no LLM takes part."""
    if config.llm_width is None:
        return None
    if config.preset == "paper":
        return SafetyTokens(config.num_llm_tokens, config.llm_width)
    return AttendedTokens(config, config.llm_width)
