"""From logits to an action: the decision, normative, as pure functions.

    p       = softmax(type logits / T) over the covered risks and `safe`, or sigmoid(type logits / T)
    score   = 1 - p[safe], less the categories that the policy switched off (sigmoid: the largest p)
    flagged = {c : p[c] >= threshold[c]}, and the most likely risk (or risks, when equal) too when
              score >= the any-threshold: two equal risks at .499 do not slip under two thresholds of .5
    nothing flagged -> `safe`, NONE, ALLOW
    otherwise level    = the most likely of LOW, MEDIUM, HIGH (a tie goes to the higher one)
              action   = the worst of policy[c][level] over the flagged c
              category = the c that gave it (a tie goes to the larger p)

Anything that is not finite is an error, and an error is the policy's `on_error`, never ALLOW.

Raising one risk's probability, at the expense of `safe` alone, never softens the action when the policy's action for
that risk is at least as hard as the verdict's. A softer risk can: it may become the most likely one in the place of a
harder one that reached no threshold of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.errors import OutputNotFinite, OutputShape
from safevlm_sdk.policy import Action, Policy
from safevlm_sdk.taxonomy import SAFE, RiskLevel

Activation = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a bundle says of its own outputs.

    Attributes:
        labels: Names of the type logits in order; `safe` is among them for softmax and not for sigmoid.
        activation: How logits become probabilities.
        temperature: T > 0, dividing the logits.
        thresholds: Risk to threshold in (0, 1], for every risk in `labels`.
        any_threshold: Threshold on the score in (0, 1].
    """

    labels: tuple[str, ...]
    activation: Activation
    temperature: float
    thresholds: Mapping[str, float]
    any_threshold: float

    @property
    def covered(self) -> tuple[str, ...]:
        """The risks that have a logit, in logit order."""
        return tuple(label for label in self.labels if label != SAFE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What follows from one view of one image.

    `categories` holds the covered risks that the policy wants; a failed decision has `error` set and no category,
    level or score.
    """

    action: Action
    category: str | None
    level: RiskLevel | None
    score: float | None
    categories: Mapping[str, float]
    reason: str
    error: str | None = None

    @property
    def rank(self) -> tuple[bool, int, int, float]:
        """Sorts decisions from the most harmless to the worst: error, action, level, score."""
        return (self.error is not None, self.action.severity, int(self.level or 0), self.score or 0.0)


def failed(code: str, message: str, policy: Policy) -> Decision:
    """The decision when the gate itself failed: the policy's `on_error`, with no risk claimed."""
    return Decision(
        action=policy.error_action,
        category=None,
        level=None,
        score=None,
        categories={},
        reason=message,
        error=code,
    )


def probabilities(type_logits: NDArray[np.floating], rule: Rule) -> dict[str, float]:
    """Label to calibrated probability, computed in float64; `type_logits` has shape [len(labels)].

    Logits that overflow when they are divided by the temperature give NaN, which `decide` makes an error.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        logits = np.asarray(type_logits, dtype=np.float64) / rule.temperature
        if rule.activation == "softmax":
            weights = np.exp(logits - logits.max())
            p = weights / weights.sum()
        else:
            e = np.exp(-np.abs(logits))
            p = np.where(logits >= 0, 1.0 / (1.0 + e), e / (1.0 + e))
    return {label: float(value) for label, value in zip(rule.labels, p, strict=True)}


def decide(
    type_logits: NDArray[np.floating], level_logprobs: NDArray[np.floating], rule: Rule, policy: Policy
) -> Decision:
    """Decides one view of one image.

    Args:
        type_logits: Shape [len(rule.labels)].
        level_logprobs: Log-probabilities of NONE, LOW, MEDIUM, HIGH, shape [4].
        rule: The bundle's side.
        policy: The operator's side.

    Returns:
        The decision; `error` is set when the outputs have a wrong shape or are not finite.
    """
    if np.shape(type_logits) != (len(rule.labels),) or np.shape(level_logprobs) != (len(RiskLevel),):
        found = f"{np.shape(type_logits)} and {np.shape(level_logprobs)}"
        return failed(OutputShape.code, f"outputs of shape {found} do not fit the bundle's labels", policy)
    if not (np.isfinite(type_logits).all() and np.isfinite(level_logprobs).all()):
        return failed(OutputNotFinite.code, "the graph returned NaN or infinity", policy)

    p = probabilities(type_logits, rule)
    if not all(map(math.isfinite, p.values())):
        return failed(OutputNotFinite.code, "a probability is NaN or infinite", policy)
    judged = {label: p[label] for label in rule.covered if label in policy.actions}
    score = _score(p, judged, rule)
    flagged = _flagged(judged, score, rule, policy)
    if not flagged:
        return Decision(
            action=Action.ALLOW,
            category=SAFE,
            level=RiskLevel.NONE,
            score=score,
            categories=judged,
            reason="no threshold reached",
        )
    level = _most_likely_level(level_logprobs)
    category = max(flagged, key=lambda c: (policy.actions[c].at(level).severity, judged[c]))
    return Decision(
        action=policy.actions[category].at(level),
        category=category,
        level=level,
        score=score,
        categories=judged,
        reason=flagged[category],
    )


def fuse(decisions: Sequence[Decision]) -> tuple[int, Decision]:
    """What follows from several views of an image, or from several bundles' decisions on it.

    The worst by (error, action, level, score) decides, the first of equals. Its action is the hardest of all: a
    failed view that the policy answers with CAUTION does not undo another view's BLOCK.

    Returns:
        Index of the decision that decides, and the decision.

    Raises:
        ValueError: There is no decision: nothing was judged, which no caller may take for harmless.
    """
    if not decisions:
        raise ValueError("no decision to choose from: nothing was judged")
    index = max(range(len(decisions)), key=lambda number: decisions[number].rank)
    worst = decisions[index]
    action = max((decision.action for decision in decisions), key=lambda one: one.severity)
    if action is not worst.action:
        worst = replace(worst, action=action, reason=f"{worst.reason}; {action.value} because of another view")
    return index, worst


def _score(p: Mapping[str, float], judged: Mapping[str, float], rule: Rule) -> float:
    if rule.activation == "sigmoid":
        return max(judged.values(), default=0.0)
    off = sum(p[label] for label in rule.covered if label not in judged)
    return min(1.0, max(0.0, 1.0 - p[SAFE] - off))


def _flagged(judged: Mapping[str, float], score: float, rule: Rule, policy: Policy) -> dict[str, str]:
    """Flagged category to the reason, which names the threshold that was reached."""
    flagged = {}
    for category, value in judged.items():
        threshold = policy.thresholds.get(category, rule.thresholds[category])
        if value >= threshold:
            flagged[category] = f"{category} {value:.3f} >= {threshold:.3f}"
    any_threshold = rule.any_threshold if policy.any_threshold is None else policy.any_threshold
    if judged and score >= any_threshold:
        largest = max(judged.values())
        for likeliest in (category for category, value in judged.items() if value == largest):
            flagged.setdefault(likeliest, f"score {score:.3f} >= {any_threshold:.3f}, most likely {likeliest}")
    return flagged


def _most_likely_level(level_logprobs: NDArray[np.floating]) -> RiskLevel:
    return max((RiskLevel.LOW, RiskLevel.MEDIUM, RiskLevel.HIGH), key=lambda x: (level_logprobs[x], x))
