"""The same gate with its constant queries folded in: what an exported graph runs.

The queries depend on nothing, so query · W_k is one vector per head and query, and scores are features · vectors.
Attention is linear in the values, so pooling goes before W_v: no Ds x Ds matrix is applied per patch. The term
query · b_k is the same for every key and cancels in the softmax; b_v is added once, since the weights sum to 1.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from safevlm_training.head import SafetyHead
from safevlm_training.modules import SafetyModules, SafetyOutput, mask_features, patch_attention


class FoldedHead(nn.Module):
    """A `SafetyHead` and its tokens, folded in float64 and kept in the dtype of the head.

    Args:
        head: The head to fold.
        tokens: [M, Ds], the rows before the features.
    """

    score_vectors: Tensor
    token_scores: Tensor
    token_values: Tensor
    value_weight: Tensor
    value_bias: Tensor

    def __init__(self, head: SafetyHead, tokens: Tensor) -> None:
        super().__init__()
        heads, dtype = head.num_heads, tokens.dtype
        with torch.no_grad():
            rows = tokens.double()
            query = torch.unflatten(_linear64(head.q_proj, head.query.double()), 1, (heads, -1)).transpose(0, 1)
            w_k = torch.unflatten(head.k_proj.weight.double(), 0, (heads, -1))
            w_v = torch.unflatten(head.v_proj.weight.double(), 0, (heads, -1)).transpose(1, 2)
            vectors = query @ w_k / math.sqrt(query.shape[2])
            constants = {
                "score_vectors": vectors.flatten(0, 1).T,
                "token_scores": vectors @ rows.T,
                "token_values": rows @ w_v,
                "value_weight": w_v,
                "value_bias": torch.unflatten(head.v_proj.bias.double(), 0, (heads, 1, -1)),
            }
        for name, value in constants.items():
            self.register_buffer(name, value.to(dtype).contiguous().clone())
        self.shape = (heads, head.query.shape[0])
        self.out_proj = copy.deepcopy(head.out_proj)
        self.readout = copy.deepcopy(head.readout)

    def attend(self, projected: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Lets the queries look at tokens and projected features [N, T, Ds].

        Args:
            projected: [N, T, Ds], without the tokens.
            mask: bool [N, T], True where valid; None when all are.

        Returns:
            Attended outputs [N, Q, Ds], and attention weights [N, heads, Q, M + T] that sum to 1 over the last axis.
        """
        scores = torch.unflatten((projected @ self.score_vectors).transpose(1, 2), 1, self.shape)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None], -math.inf)
        constant = self.token_scores.unsqueeze(0).expand(projected.shape[0], -1, -1, -1)
        weights = torch.cat([constant, scores], dim=3).softmax(dim=3)
        on_tokens, on_patches = weights[..., : constant.shape[3]], weights[..., constant.shape[3] :]
        pooled = torch.unflatten(on_patches.flatten(1, 2) @ projected, 1, self.shape)
        values = pooled @ self.value_weight + on_tokens @ self.token_values + self.value_bias
        attended: Tensor = self.out_proj(values.transpose(1, 2).flatten(2))
        return attended, weights


class FoldedModules(nn.Module):
    """`SafetyModules` with a folded head: the same call, the same output, nothing left to train."""

    def __init__(self, modules: SafetyModules) -> None:
        super().__init__()
        self.config = modules.config
        self.projector = copy.deepcopy(modules.projector)
        self.head = FoldedHead(modules.head, modules.tokens.rows.detach())
        self.llm_tokens = copy.deepcopy(modules.llm_tokens)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> SafetyOutput:
        """Judges features [N, T, Dv]; `mask` is bool [N, T], True where a patch is valid."""
        attended, weights = self.head.attend(self.projector(mask_features(features, mask)), mask)
        types, levels = self.head.readout(attended)
        return SafetyOutput(
            type_logits=types,
            level_logprobs=levels,
            attention=patch_attention(weights, self.config.num_tokens),
            safety_embeddings=None if self.llm_tokens is None else self.llm_tokens(attended),
        )


def fold(modules: SafetyModules) -> FoldedModules:
    """An equal copy that is nearly free beside the tower; in eval mode, without gradients."""
    return FoldedModules(modules).eval().requires_grad_(False)


def _linear64(linear: nn.Linear, x: Tensor) -> Tensor:
    return x @ linear.weight.double().T + linear.bias.double()
