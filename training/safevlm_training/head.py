"""The safety head: queries look at tokens and projected features, two linear heads read what they found."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from safevlm_training.config import SafetyConfig
from safevlm_training.levels import build_levels

PAPER_QUERY_STD = 0.02


class Readout(nn.Module):
    """Attended outputs [N, Q, Ds] -> (type logits [N, C + 1], level log-probabilities [N, 4])."""

    def __init__(self, config: SafetyConfig) -> None:
        super().__init__()
        features = config.num_queries * config.width
        self.types = nn.Linear(features, len(config.labels))
        self.levels = build_levels(config.level_head, features)

    def forward(self, attended: Tensor) -> tuple[Tensor, Tensor]:
        """Reads [N, Q, Ds]."""
        flat = attended.flatten(1)
        return self.types(flat), self.levels(flat)


class SafetyHead(nn.Module):
    """Cross-attention whose queries depend on neither image nor text, and its readout.

    Written out so that `fold` can take the projections apart: with head h of width d = Ds / heads, attention uses
    rows h * d to (h + 1) * d of `q_proj`, `k_proj` and `v_proj`, and these columns of `out_proj`.

    In the "paper" preset the query is the embedding of the LLM's first token. That embedding is frozen there, so it
    is a buffer; in the "edge" preset the queries are learned.

    Args:
        config: Sizes.
        bos_embedding: [Ds] or [Q, Ds], the LLM's embedding of its first token; only for "paper".
    """

    query: Tensor

    def __init__(self, config: SafetyConfig, bos_embedding: Tensor | None = None) -> None:
        super().__init__()
        width = config.width
        self.num_heads = config.num_heads
        query = _initial_query(config, bos_embedding)
        if config.preset == "paper":
            self.register_buffer("query", query)
        else:
            self.query = nn.Parameter(query)
        self.q_proj = _projection(width)
        self.k_proj = _projection(width)
        self.v_proj = _projection(width)
        self.out_proj = _projection(width)
        self.readout = Readout(config)

    def attend(self, keys: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Lets the queries look at the keys, which are the values too.

        Args:
            keys: [N, L, Ds], tokens first.
            mask: bool [N, L], True where valid; None when all are.

        Returns:
            Attended outputs [N, Q, Ds], and attention weights [N, heads, Q, L] that sum to 1 over L.
        """
        query = _heads(self.q_proj(self.query).unsqueeze(0), self.num_heads)
        key, value = _heads(self.k_proj(keys), self.num_heads), _heads(self.v_proj(keys), self.num_heads)
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None], -math.inf)
        weights = scores.softmax(dim=-1)
        attended: Tensor = self.out_proj((weights @ value).transpose(1, 2).flatten(2))
        return attended, weights


def _heads(x: Tensor, num_heads: int) -> Tensor:
    """[N, L, Ds] -> [N, heads, L, Ds / heads]."""
    return torch.unflatten(x, 2, (num_heads, -1)).transpose(1, 2)


def _projection(width: int) -> nn.Linear:
    linear = nn.Linear(width, width)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _initial_query(config: SafetyConfig, bos_embedding: Tensor | None) -> Tensor:
    shape = (config.num_queries, config.width)
    if bos_embedding is None:
        return torch.randn(shape) * (PAPER_QUERY_STD if config.preset == "paper" else 1.0)
    if config.preset != "paper":
        raise ValueError("the edge preset learns its queries; bos_embedding belongs to the paper preset")
    if bos_embedding.shape not in (shape, shape[1:]):
        raise ValueError(f"bos_embedding has shape {tuple(bos_embedding.shape)}; it must be {shape[1:]} or {shape}")
    return bos_embedding.detach().to(torch.float32).expand(shape).clone()
