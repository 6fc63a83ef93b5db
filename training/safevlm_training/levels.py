"""From what the head saw to log-probabilities of the four risk levels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safevlm_sdk.taxonomy import RiskLevel

NUM_LEVELS = len(RiskLevel)
MIN_GAP = 1e-3


class SoftmaxLevels(nn.Module):
    """Four free logits, as in arXiv 2405.13581: [N, F] -> [N, 4]."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.logits = nn.Linear(features, NUM_LEVELS)

    def forward(self, features: Tensor) -> Tensor:
        """Log-probabilities [N, 4] of features [N, F]."""
        return F.log_softmax(self.logits(features), dim=-1)


class OrdinalLevels(nn.Module):
    """One score and three ordered cut-points (a proportional-odds model): [N, F] -> [N, 4].

    P(level <= k) = sigmoid(cut[k] - score). The cut-points are the first plus sums of positive gaps, so training
    cannot put them out of order.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.score = nn.Linear(features, 1)
        self.first = nn.Parameter(torch.tensor([-1.0]))
        self.raw_gaps = nn.Parameter(torch.full((NUM_LEVELS - 2,), math.log(math.expm1(1.0 - MIN_GAP))))

    @property
    def cut_points(self) -> Tensor:
        """[3], ascending."""
        return torch.cat([self.first, self.first + (F.softplus(self.raw_gaps) + MIN_GAP).cumsum(0)])

    def forward(self, features: Tensor) -> Tensor:
        """Log-probabilities [N, 4] of features [N, F]."""
        return ordinal_logprobs(self.score(features), self.cut_points)


def ordinal_logprobs(score: Tensor, cuts: Tensor) -> Tensor:
    """Log-probabilities [N, 4] of a score [N, 1] against three ascending cut-points [3].

    sigmoid(b) - sigmoid(a) = sigmoid(b) * sigmoid(-a) * (1 - exp(a - b)), whose logarithm is finite for any finite
    score, unlike the logarithm of the difference.
    """
    below = F.logsigmoid(cuts - score)
    above = F.logsigmoid(score - cuts)
    gap = torch.log(-torch.expm1(cuts[:-1] - cuts[1:]))
    middle = below[:, 1:] + above[:, :-1] + gap
    return torch.cat([below[:, :1], middle, above[:, -1:]], dim=-1)


def build_levels(kind: str, features: int) -> nn.Module:
    """The level head "ordinal" or "softmax": [N, features] -> log-probabilities [N, 4]."""
    return OrdinalLevels(features) if kind == "ordinal" else SoftmaxLevels(features)
