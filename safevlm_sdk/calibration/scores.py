"""Probabilities of many images at once, computed as a decision computes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.decision import Rule, probabilities
from safevlm_sdk.manifest import Thresholds
from safevlm_sdk.taxonomy import SAFE


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Calibrated probabilities, under a policy that wants every category.

    Attributes:
        risks: [N, C], in logit order.
        score: [N], 1 - P(safe).
    """

    risks: NDArray[np.float64]
    score: NDArray[np.float64]

    def flagged(self, labels: Sequence[str], thresholds: Thresholds) -> NDArray[np.bool_]:
        """[N], True where some threshold is reached."""
        limits = np.array([thresholds.categories[label] for label in labels[:-1]])
        flags: NDArray[np.bool_] = (self.risks >= limits).any(axis=1) | (self.score >= thresholds.any)
        return flags


def scores_of(type_logits: NDArray[np.float64], labels: Sequence[str], temperature: float) -> Scores:
    """Probabilities by softmax at a temperature.

    Args:
        type_logits: [N, C + 1].
        labels: Names of the types in logit order, `safe` last.
        temperature: T > 0.
    """
    risks = [*labels[:-1]]
    rule = Rule(
        labels=tuple(labels),
        activation="softmax",
        temperature=temperature,
        thresholds=dict.fromkeys(risks, 1.0),
        any_threshold=1.0,
    )
    rows = [probabilities(logits, rule) for logits in type_logits]
    return Scores(
        risks=np.array([[row[risk] for risk in risks] for row in rows]).reshape(len(rows), -1),
        score=np.array([min(1.0, max(0.0, 1.0 - row[SAFE])) for row in rows]),
    )
