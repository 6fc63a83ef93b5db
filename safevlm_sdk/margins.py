"""How far a decision is from being another one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.decision import Decision, Rule, decide, probabilities
from safevlm_sdk.policy import Policy
from safevlm_sdk.taxonomy import SAFE

NEAR = 0.01


def threshold_margin(type_logits: NDArray[np.floating], rule: Rule, policy: Policy) -> float:
    """Smallest distance of a judged probability, or of the score, from its threshold; 1 when nothing is judged."""
    p = probabilities(type_logits, rule)
    distances = [
        abs(p[label] - policy.thresholds.get(label, rule.thresholds[label]))
        for label in rule.covered
        if label in policy.actions
    ]
    if not distances:
        return 1.0
    any_threshold = rule.any_threshold if policy.any_threshold is None else policy.any_threshold
    return min(*distances, abs(score_of(type_logits, rule, policy) - any_threshold))


def score_of(type_logits: NDArray[np.floating], rule: Rule, policy: Policy) -> float:
    """The decision's score."""
    score = decide(type_logits, np.zeros(4, dtype=np.float32), rule, policy).score
    return 0.0 if score is None else score


def decision_margin(
    type_logits: NDArray[np.floating], level_logprobs: NDArray[np.floating], rule: Rule, policy: Policy
) -> float:
    """How much probabilities or level log-probabilities may move before category, level or action can change."""
    margin = threshold_margin(type_logits, rule, policy)
    if decide(type_logits, level_logprobs, rule, policy).category == SAFE:
        return margin
    second, first = np.sort(np.asarray(level_logprobs, dtype=np.float64)[1:])[-2:]
    p = probabilities(type_logits, rule)
    judged = [p[label] for label in rule.covered if label in policy.actions]
    ties = [abs(left - right) for left, right in combinations(judged, 2)]
    return min(margin, float(first - second), *ties)


def same(left: Decision, right: Decision) -> bool:
    """Equal category, level and action, and no error."""
    return left.error is None and said(left) == said(right)


def said(decision: Decision) -> tuple[object, ...]:
    """Error, category, level and action."""
    return decision.error, decision.category, decision.level, decision.action
