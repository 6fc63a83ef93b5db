"""Cases of the decision: outputs of a gate, what a bundle and a policy say, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from safevlm_sdk.actions import LevelActions
from safevlm_sdk.decision import Decision, Rule, decide
from safevlm_sdk.policy import Action, Policy

LABELS = ("privacy", "illegal_risk", "misleading", "safe")
RISKS = LABELS[:3]
LEVELS = (-4.0, -0.1, -3.0, -5.0)  # low is the most likely of the three
NAN, INF = float("nan"), float("inf")
ALLOW, CAUTION, BLOCK = Action.ALLOW, Action.CAUTION, Action.BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One input of the decision."""

    name: str
    type_logits: tuple[float, ...]
    level_logprobs: tuple[float, ...]
    rule: Rule
    policy: Policy

    def decided(self) -> Decision:
        """What follows."""
        return decide(np.array(self.type_logits), np.array(self.level_logprobs), self.rule, self.policy)


def cases() -> tuple[Case, ...]:
    """All cases, always the same."""
    return (*_softmax(), *_sigmoid(), *_levels(), *_policies(), *_broken())


def _softmax() -> tuple[Case, ...]:
    two = _rule(labels=("privacy", "illegal_risk", "safe"))
    even = _logits(0.499, 0.499, 0.002)
    return (
        _case("a clear risk", _logits(0.9, 0.03, 0.02, 0.05)),
        _case("a harmless image", _logits(0.01, 0.01, 0.01, 0.97)),
        _case("two equal risks at .499 under thresholds of .5", even, rule=two),
        _case("the score alone, and one risk the most likely", _logits(0.4, 0.3, 0.05, 0.25)),
        _case(
            "two risks over their own thresholds", _logits(0.4, 0.4, 0.1, 0.1), rule=_rule(privacy=0.3, illegal=0.35)
        ),
        _case("a probability equal to its threshold", (0.0, 0.0), rule=_rule(labels=("privacy", "safe"))),
        _case(
            "temperature 2.5 brings a risk under its threshold",
            (3.0, 0.0, 0.0, 1.5),
            rule=_rule(temperature=2.5, any=0.9),
        ),
        _case("temperature 0.5 brings a risk over its threshold", (1.0, 0.0, 0.0, 0.5), rule=_rule(temperature=0.5)),
        _case("large logits do not overflow", (30000.0, 29999.0, 0.0, 0.0)),
        _case("very negative logits", (-1000.0, -1001.0, -1002.0, -1003.0)),
        _case("labels in another order", (0.0, 2.0, 1.0), rule=_rule(labels=("safe", "misleading", "privacy"))),
        _case("thresholds of 1 leave the score alone", _logits(0.8, 0.1, 0.05, 0.05), rule=_rule(privacy=1.0)),
    )


def _sigmoid() -> tuple[Case, ...]:
    rule = _rule(labels=RISKS, activation="sigmoid")
    return (
        _case("sigmoid: a clear risk", (4.0, -3.0, -3.0), rule=rule),
        _case("sigmoid: nothing", (-4.0, -3.0, -3.5), rule=rule),
        _case("sigmoid: several risks at once", (2.0, 3.0, 1.0), rule=rule),
        _case("sigmoid: zero is .5, which reaches .5", (0.0, -5.0, -5.0), rule=rule),
        _case("sigmoid: large logits of both signs", (-800.0, 800.0, 0.0), rule=rule),
        _case(
            "sigmoid: the score is the largest",
            (0.2, 0.3, -2.0),
            rule=_rule(labels=RISKS, activation="sigmoid", privacy=0.9, illegal=0.9, any=0.55),
        ),
    )


def _levels() -> tuple[Case, ...]:
    risky = _logits(0.9, 0.03, 0.02, 0.05)
    return (
        _case("the level none never clears a flag", risky, levels=(-0.01, -6.0, -5.0, -7.0)),
        _case("a tie of levels goes to the higher", risky, levels=(-3.0, -1.0, -1.0, -2.0)),
        _case("a tie of all levels is high", risky, levels=(0.0, 0.0, 0.0, 0.0)),
        _case("high", risky, levels=(-9.0, -4.0, -2.0, -0.2)),
        _case("levels need not be normalised", risky, levels=(5.0, 1.0, 7.0, 2.0)),
    )


def _policies() -> tuple[Case, ...]:
    both = _rule(privacy=0.3, illegal=0.3)
    off = _policy(privacy=None)
    soft = _policy(privacy=(ALLOW, ALLOW, CAUTION))
    return (
        _case("the hardest action of the flagged wins", _logits(0.5, 0.4, 0.05, 0.05), rule=both),
        _case(
            "equal actions: the more likely category",
            _logits(0.35, 0.45, 0.1, 0.1),
            rule=both,
            policy=_policy(privacy=(BLOCK, BLOCK, BLOCK)),
        ),
        _case(
            "equal actions and probabilities: the first label",
            (1.0, 1.0, -3.0, 0.0),
            rule=both,
            policy=_policy(privacy=(BLOCK, BLOCK, BLOCK)),
        ),
        _case("a category that is switched off is not flagged", _logits(0.9, 0.03, 0.02, 0.05), policy=off),
        _case("the score leaves out what is switched off", _logits(0.6, 0.2, 0.1, 0.1), policy=off),
        _case(
            "no covered category is wanted",
            _logits(0.9, 0.03, 0.02, 0.05),
            policy=_policy(privacy=None, illegal_risk=None, misleading=None, other=(BLOCK,) * 3),
        ),
        _case("a flagged risk may be allowed", _logits(0.9, 0.03, 0.02, 0.05), policy=soft),
        _case(
            "the policy's own threshold", _logits(0.3, 0.05, 0.05, 0.6), policy=_policy(thresholds={"privacy": 0.25})
        ),
        _case(
            "the policy's own threshold on the score", _logits(0.2, 0.1, 0.1, 0.6), policy=_policy(any_threshold=0.39)
        ),
    )


def _broken() -> tuple[Case, ...]:
    fine = _logits(0.01, 0.01, 0.01, 0.97)
    caution = _policy(on_error="caution")
    tiny = _rule(temperature=0.001)
    return (
        _case("NaN among the logits", (NAN, 0.0, 0.0, 9.0)),
        _case("infinity among the logits", (0.0, 0.0, 0.0, INF)),
        _case("minus infinity among the logits", (-INF, 0.0, 0.0, 9.0)),
        _case("NaN among the levels, though nothing is flagged", fine, levels=(0.0, NAN, 0.0, 0.0)),
        _case("on_error = caution", (NAN, 0.0, 0.0, 9.0), policy=caution),
        _case("too few logits", (0.0, 0.0, 9.0)),
        _case("too few levels", fine, levels=(0.0, -1.0, -2.0)),
        _case("logits that overflow when divided", (1e308, 0.0, 0.0, -1e308), rule=tiny),
    )


def _case(
    name: str,
    logits: tuple[float, ...],
    *,
    levels: tuple[float, ...] = LEVELS,
    rule: Rule | None = None,
    policy: Policy | None = None,
) -> Case:
    return Case(
        name=name, type_logits=logits, level_logprobs=levels, rule=rule or _rule(), policy=policy or _policy()
    )


def _logits(*probabilities: float) -> tuple[float, ...]:
    """Logits whose softmax at temperature 1 is about this, in few digits, so that all languages read the same."""
    return tuple(round(float(np.log(p)), 6) for p in probabilities)


def _rule(
    *,
    labels: tuple[str, ...] = LABELS,
    activation: str = "softmax",
    temperature: float = 1.0,
    privacy: float = 0.5,
    illegal: float = 0.5,
    any: float = 0.6,
) -> Rule:
    thresholds = {"privacy": privacy, "illegal_risk": illegal, "misleading": 0.5}
    return Rule(
        labels=labels,
        activation="sigmoid" if activation == "sigmoid" else "softmax",
        temperature=temperature,
        thresholds={label: thresholds[label] for label in labels if label in thresholds},
        any_threshold=any,
    )


def _policy(**changes: Any) -> Policy:
    """Privacy cautions and blocks, the illegal blocks, the misleading cautions; None switches a category off."""
    actions: dict[str, tuple[Action, Action, Action] | None] = {
        "privacy": (CAUTION, CAUTION, BLOCK),
        "illegal_risk": (BLOCK, BLOCK, BLOCK),
        "misleading": (ALLOW, CAUTION, CAUTION),
    }
    fields: dict[str, Any] = {}
    for key, value in changes.items():
        if value is None or isinstance(value, tuple):
            actions[key] = value
        else:
            fields[key] = value
    kept = {
        name: LevelActions(low=found[0], medium=found[1], high=found[2])
        for name, found in actions.items()
        if found is not None
    }
    return Policy(schema=1, name="conformance", uncovered="allow", actions=kept, **fields)
