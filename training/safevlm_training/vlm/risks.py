"""What the gate decides of the images of a conversation, and what the language model is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.decision import Decision, Rule, decide, probabilities
from safevlm_sdk.errors import DataError, OutputNotFinite
from safevlm_sdk.policy import Action, LevelActions, Policy
from safevlm_sdk.safety_prompt import safety_prompt, with_safety_prompt
from safevlm_sdk.taxonomy import SAFE, RiskLevel, Taxonomy
from safevlm_training.checkpoint import CheckpointCalibration
from safevlm_training.config import SafetyConfig
from safevlm_training.modules import SafetyOutput

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """How a checkpoint's outputs become decisions.

    Attributes:
        config: Of the checkpoint.
        calibration: Temperature and thresholds; None decides for the most likely category.
        policy: Categories without an entry are switched off; None wants every covered category.
    """

    config: SafetyConfig
    calibration: CheckpointCalibration | None
    policy: Policy | None = None

    def __call__(self, output: SafetyOutput) -> list[Decision]:
        """One decision per image.

        Raises:
            OutputNotFinite: An output is NaN or infinite.
        """
        types = output.type_logits.detach().double().cpu().numpy()
        levels = output.level_logprobs.detach().double().cpu().numpy()
        decisions = [self._one(*pair) for pair in zip(types, levels, strict=True)]
        for number, decision in enumerate(decisions):
            if decision.error is not None:
                raise OutputNotFinite(f"image {number}: {decision.reason}; the gate gives no verdict on it")
        return decisions

    def _one(self, types: Floats, levels: Floats) -> Decision:
        policy = _wants_all(self.config) if self.policy is None else self.policy
        decision = decide(types, levels, self._rule, policy)
        if self.calibration is not None or decision.error is not None:
            return decision
        return _most_likely(types, decision, levels, self._rule, policy)

    @property
    def _rule(self) -> Rule:
        found = self.calibration
        each = dict.fromkeys(self.config.coverage, 1.0) if found is None else found.thresholds.categories
        return Rule(
            labels=self.config.labels,
            activation="softmax",
            temperature=1.0 if found is None else found.calibration.temperature,
            thresholds=each,
            any_threshold=1.0 if found is None else found.thresholds.any,
        )


def worst(decisions: Sequence[Decision]) -> Decision | None:
    """The decision of the highest level, then of the highest score; None where there is no image."""
    return max(decisions, key=lambda one: (int(one.level or 0), one.score or 0.0), default=None)


def with_notes(
    conversations: Sequence[Sequence[Mapping[str, Any]]],
    decisions: Sequence[Sequence[Decision]],
    taxonomy: Taxonomy,
    policy: Policy | None = None,
) -> list[list[Mapping[str, Any]]]:
    """Conversations with a safety prompt behind the last question of each, after its worst image.

    Args:
        conversations: They stay as they are; the result shares their other messages.
        decisions: Of the images of each.
        taxonomy: Of the decisions' categories.
        policy: Its words, instead of the shipped ones.

    Raises:
        DataError: A conversation with a risky image has no turn of the user.
    """
    prompts, hints = (None, None) if policy is None else (policy.prompts, policy.hints)
    found = []
    for conversation, some in zip(conversations, decisions, strict=True):
        one = worst(some)
        note = ""
        if one is not None:
            note = safety_prompt(one.category or SAFE, one.level or RiskLevel.NONE, taxonomy, prompts, hints)
        found.append(_noted(conversation, note) if note else list(conversation))
    return found


def _noted(conversation: Sequence[Mapping[str, Any]], note: str) -> list[Mapping[str, Any]]:
    messages = list(conversation)
    last = max((number for number, one in enumerate(messages) if one.get("role") == "user"), default=None)
    if last is None:
        raise DataError("a conversation has no message with role `user`, behind which a safety prompt could stand")
    messages[last] = {**messages[last], "content": _content(messages[last].get("content"), note)}
    return messages


def _content(content: Any, note: str) -> Any:
    if isinstance(content, str):
        return with_safety_prompt(content, note)
    parts = list(content or ())
    texts = [number for number, part in enumerate(parts) if part.get("type") == "text"]
    if not texts:
        return [*parts, {"type": "text", "text": note}]
    part = parts[texts[-1]]
    parts[texts[-1]] = {**part, "text": with_safety_prompt(part["text"], note)}
    return parts


def _most_likely(types: Floats, decision: Decision, levels: Floats, rule: Rule, policy: Policy) -> Decision:
    """The likeliest of `safe` and the wanted categories, at the likeliest of LOW, MEDIUM and HIGH."""
    p = probabilities(types, rule)
    label = max((SAFE, *decision.categories), key=lambda one: p[one])
    if label == SAFE:
        action, level = Action.ALLOW, RiskLevel.NONE
    else:
        level = max((RiskLevel.LOW, RiskLevel.MEDIUM, RiskLevel.HIGH), key=lambda one: (levels[one], one))
        action = policy.actions[label].at(level)
    return Decision(
        action=action,
        category=label,
        level=level,
        score=decision.score,
        categories=decision.categories,
        reason=f"{label} is most likely; the checkpoint has no thresholds",
    )


def _wants_all(config: SafetyConfig) -> Policy:
    actions = LevelActions(low=Action.CAUTION, medium=Action.CAUTION, high=Action.BLOCK)
    return Policy(
        schema=1, name="every covered risk", uncovered="allow", actions=dict.fromkeys(config.coverage, actions)
    )
