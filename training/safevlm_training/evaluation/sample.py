"""The judged images as arrays: what is true, what was decided, and how likely the gate thought each risk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.decision import Decision, Rule, decide
from safevlm_sdk.policy import Action, Policy
from safevlm_sdk.taxonomy import SAFE
from safevlm_training.checkpoint import CheckpointCalibration
from safevlm_training.evaluation.judging import Outputs, Unjudged
from safevlm_training.splits import Item

ACTIONS = tuple(action.value for action in Action)
Float = NDArray[np.float64]
Int = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """N judged images.

    Attributes:
        items: The images.
        labels: The risks that are judged, then `safe`.
        types: [N], index of the true label.
        levels: [N], 0 to 3.
        groups: [N], from 0 to G - 1.
        sources: [N], names.
        odds: [N, R], log-odds of each judged risk against everything else, calibrated.
        risk_odds: [N], log-odds of the score.
        level_logprobs: [N, 4].
        decisions: [N].
        decided: [N], index of the decided label.
        decided_levels: [N], 0 to 3.
        actions: [N], index in `ACTIONS`.
        pooled: float32 [N, D], mean of the tower's features.
    """

    items: tuple[Item, ...]
    labels: tuple[str, ...]
    types: Int
    levels: Int
    groups: Int
    sources: NDArray[np.str_]
    odds: Float
    risk_odds: Float
    level_logprobs: Float
    decisions: tuple[Decision, ...]
    decided: Int
    decided_levels: Int
    actions: Int
    pooled: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def risky(self) -> NDArray[np.bool_]:
        """[N], True where the true label is a risk."""
        risky: NDArray[np.bool_] = self.types != len(self.labels) - 1
        return risky

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """[N], True where a threshold was reached."""
        flagged: NDArray[np.bool_] = self.decided != len(self.labels) - 1
        return flagged


def rule_of(calibration: CheckpointCalibration, labels: tuple[str, ...]) -> Rule:
    """How a bundle of this checkpoint would decide."""
    return Rule(
        labels=labels,
        activation="softmax",
        temperature=calibration.calibration.temperature,
        thresholds=calibration.thresholds.categories,
        any_threshold=calibration.thresholds.any,
    )


def build_sample(outputs: Outputs, rule: Rule, policy: Policy) -> tuple[Sample, tuple[Unjudged, ...]]:
    """Decides every image as the runtime would; the second value holds those on which that failed."""
    decisions = [
        decide(types, levels, rule, policy)
        for types, levels in zip(outputs.type_logits, outputs.level_logprobs, strict=True)
    ]
    failed = tuple(
        Unjudged(example=item.example, code=decision.error, reason=decision.reason)
        for item, decision in zip(outputs.items, decisions, strict=True)
        if decision.error is not None
    )
    good = np.array([decision.error is None for decision in decisions], dtype=bool)
    labels = (*(label for label in rule.covered if label in policy.actions), SAFE)
    items = tuple(item for item, kept in zip(outputs.items, good, strict=True) if kept)
    kept_decisions = tuple(decision for decision in decisions if decision.error is None)
    names = np.array([item.group for item in items], dtype=object).astype(str)
    odds, risk_odds = log_odds(outputs.type_logits[good] / rule.temperature, rule.labels, labels[:-1])
    sample = Sample(
        items=items,
        labels=labels,
        types=np.array([labels.index(item.example.category) for item in items], dtype=np.int64),
        levels=np.array([item.example.level for item in items], dtype=np.int64),
        groups=np.unique(names, return_inverse=True)[1].astype(np.int64).reshape(-1),
        sources=np.array([item.example.source for item in items], dtype=object).astype(str),
        odds=odds,
        risk_odds=risk_odds,
        level_logprobs=outputs.level_logprobs[good],
        decisions=kept_decisions,
        decided=np.array([labels.index(one.category or SAFE) for one in kept_decisions], dtype=np.int64),
        decided_levels=np.array([int(one.level or 0) for one in kept_decisions], dtype=np.int64),
        actions=np.array([one.action.severity for one in kept_decisions], dtype=np.int64),
        pooled=outputs.pooled[good],
    )
    return sample, failed


def log_odds(logits: Float, labels: tuple[str, ...], judged: tuple[str, ...]) -> tuple[Float, Float]:
    """Log-odds of each judged risk [N, R], and of all of them together [N], from logits [N, len(labels)].

    They order images as the probabilities do, and do not saturate where those are 1.
    """
    columns = [labels.index(label) for label in judged]
    others = [[index for index in range(len(labels)) if index != column] for column in columns]
    odds = np.stack([logits[:, c] - _logsumexp(logits[:, rest]) for c, rest in zip(columns, others, strict=True)], 1)
    rest = [index for index in range(len(labels)) if index not in columns]
    return odds, _logsumexp(logits[:, columns]) - _logsumexp(logits[:, rest])


def sigmoid(odds: Float) -> Float:
    """Probability of log-odds."""
    e = np.exp(-np.abs(odds))
    probability: Float = np.where(odds >= 0, 1 / (1 + e), e / (1 + e))
    return probability


def _logsumexp(values: Float) -> Float:
    if not len(values):
        return np.empty(0)
    top = values.max(axis=1)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):  # a sum of nothing but -inf is -inf
        total: Float = top + np.log(np.exp(values - top[:, None]).sum(axis=1))
    return total
