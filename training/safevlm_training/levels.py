"""From what the head saw to log-probabilities of the four risk levels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safevlm_sdk.taxonomy import RiskLevel

NUM_LEVELS = len(RiskLevel)
MIN_GAP = 1e-3
# With gaps below about 1.4, a level in the middle is the likeliest at no score at all.
INITIAL_GAP = 3.0


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
        self.first = nn.Parameter(torch.tensor([-INITIAL_GAP]))
        self.raw_gaps = nn.Parameter(torch.full((NUM_LEVELS - 2,), math.log(math.expm1(INITIAL_GAP - MIN_GAP))))

    @property
    def gaps(self) -> Tensor:
        """[2], the positive distances between neighbouring cut-points."""
        return F.softplus(self.raw_gaps) + MIN_GAP

    def forward(self, features: Tensor) -> Tensor:
        """Log-probabilities [N, 4] of features [N, F]."""
        return ordinal_logprobs(self.score(features), self.first, self.gaps)


def ordinal_logprobs(score: Tensor, first: Tensor, gaps: Tensor) -> Tensor:
    """Log-probabilities [N, 4] of a score [N, 1] against the first cut-point [1] and the gaps [2] to the next ones.

    sigmoid(b) - sigmoid(a) = sigmoid(b) * sigmoid(-a) * (1 - exp(a - b)), whose logarithm is finite for any finite
    score, unlike the logarithm of the difference.
    """
    cuts = torch.cat([first, first + gaps.cumsum(0)])
    below = F.logsigmoid(cuts - score)
    above = F.logsigmoid(score - cuts)
    middle = below[:, 1:] + above[:, :-1] + torch.log(-torch.expm1(-gaps))
    return torch.cat([below[:, :1], middle, above[:, -1:]], dim=-1)


def build_levels(kind: str, features: int) -> nn.Module:
    """The level head "ordinal" or "softmax": [N, features] -> log-probabilities [N, 4]."""
    return OrdinalLevels(features) if kind == "ordinal" else SoftmaxLevels(features)
