"""From what each gate found to one verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

from safevlm_runtime.judging.panel import Panel
from safevlm_runtime.judging.views import Found
from safevlm_sdk.actions import Action, hardest
from safevlm_sdk.decision import Decision, fuse
from safevlm_sdk.judged_view import MAX_TOLD_VIEWS, JudgedView
from safevlm_sdk.taxonomy import SAFE
from safevlm_sdk.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Acting:
    """What is done: the part of a verdict that other camera frames may change.

    Attributes:
        action: What the application must do.
        observed: What it would be if every policy were enforced; None where every policy is.
        reason: Why.
        failed: The gate failed.
    """

    action: Action
    observed: Action | None
    reason: str
    failed: bool


Adjust = Callable[[Acting], Acting]


class _Told(TypedDict):
    action: Action
    observed: Action | None
    reason: str
    safety_prompt: str
    refusal: str


def verdict_of(
    panel: Panel,
    found: Sequence[Found],
    timings_ms: Mapping[str, float],
    source_sha256: str | None,
    adjust: Adjust | None = None,
) -> Verdict:
    """The verdict on one image from what each gate found, in the order of the gates.

    A gate whose policy only observes is heard, and changes nothing: its decision is told where no enforced one acts.

    Args:
        panel: Of the gates.
        found: One per gate.
        timings_ms: Times so far.
        source_sha256: Of the encoded bytes, if there were any.
        adjust: What other frames of a camera make of the action.
    """
    index, chosen = meant = _fused(panel, found, range(len(found)))
    action, observed = chosen.action, None
    if len(panel.enforcing) < len(found):
        action, observed = Action.ALLOW, chosen.action
        if panel.enforcing:
            enforced = _fused(panel, found, panel.enforcing)
            action = enforced[1].action
            index, chosen = meant if action is Action.ALLOW else enforced
    good = chosen.error is None
    reason = "; ".join([chosen.reason, *(panel.notes if good else ())])
    acting = Acting(action=action, observed=observed, reason=reason, failed=not good)
    winner = found[index]
    views = _told_views(panel.names, found, index)
    return Verdict(
        **_told(panel, index, chosen, acting if adjust is None else adjust(acting)),
        category=chosen.category,
        level=chosen.level,
        score=chosen.score,
        categories=_merged(panel.names, [one.decision for one in found]) if good else {},
        covered=panel.covered,
        uncovered=panel.uncovered,
        error=chosen.error,
        timings_ms=dict(timings_ms),
        provider=panel.provider,
        source_sha256=source_sha256,
        raster_sha256=winner.sha256,
        bundle_digests=panel.bundle_digests,
        policy_digests=panel.policy_digests,
        attention=winner.attention,
        region=winner.region,
        views=views,
        views_judged=sum(len(one.views) for one in found),
    )


def failed_verdict(
    panel: Panel,
    failure: tuple[str, str],
    timings_ms: Mapping[str, float],
    source_sha256: str | None,
    *,
    ran: bool,
    adjust: Adjust | None = None,
) -> Verdict:
    """The verdict when nothing could be judged: the most severe `on_error`, with no risk claimed.

    Args:
        panel: Of the gates.
        failure: (code, reason).
        timings_ms: Times so far.
        source_sha256: Of the encoded bytes, if they were read.
        ran: A graph was tried.
        adjust: As for `verdict_of`.
    """
    code, reason = failure
    answers = [policy.error_action for policy in panel.policies]
    meant = hardest(answers)
    index = answers.index(meant)
    nothing = Decision(action=meant, category=None, level=None, score=None, categories={}, reason=reason, error=code)
    acting = Acting(
        action=hardest([answers[number] for number in panel.enforcing]),
        observed=None if len(panel.enforcing) == len(answers) else meant,
        reason=reason,
        failed=True,
    )
    return Verdict(
        **_told(panel, index, nothing, acting if adjust is None else adjust(acting)),
        category=None,
        level=None,
        score=None,
        categories={},
        covered=panel.covered,
        uncovered=panel.uncovered,
        error=code,
        timings_ms=dict(timings_ms),
        provider=panel.provider if ran else None,
        source_sha256=source_sha256,
        raster_sha256=None,
        bundle_digests=panel.bundle_digests,
        policy_digests=panel.policy_digests,
    )


def with_total(verdict: Verdict, total_ms: float) -> Verdict:
    """The verdict with the wall time of the whole check."""
    return replace(verdict, timings_ms={**verdict.timings_ms, "total": total_ms})


def _fused(panel: Panel, found: Sequence[Found], gates: Sequence[int]) -> tuple[int, Decision]:
    """What some of the gates decide together, as if their policies were enforced, and which of them decides."""
    at, chosen = fuse([found[gate].decision for gate in gates])
    if len(found) > 1:
        chosen = replace(chosen, reason=f"{panel.names[gates[at]]}: {chosen.reason}")
    cautious = panel.uncovered and any(
        panel.policies[gate].uncovered == "caution" and set(panel.policies[gate].actions) & set(panel.uncovered)
        for gate in gates
    )
    if cautious and chosen.action is Action.ALLOW:
        reason = f"{chosen.reason}; not looked for: {', '.join(panel.uncovered)}"
        chosen = replace(chosen, action=Action.CAUTION, reason=reason)
    return gates[at], chosen


def _told(panel: Panel, index: int, decision: Decision, acting: Acting) -> _Told:
    """The action, and the words that go with it, by the policy of the gate that decides."""
    policy = panel.policies[index]
    note = ""
    if acting.action is Action.CAUTION:
        note = policy.prompts.generic
        if decision.category is not None and decision.category != SAFE and decision.level is not None:
            note = panel.prompts[index][decision.category, decision.level]
    return {
        "action": acting.action,
        "observed": acting.observed,
        "reason": acting.reason,
        "safety_prompt": note,
        "refusal": policy.refusal if acting.action is Action.BLOCK else "",
    }


def _told_views(names: Sequence[str], found: Sequence[Found], decisive: int) -> tuple[JudgedView, ...]:
    """What is told of the views: of all, or where they are very many of the worst and the one that decides."""
    told = [
        (decision, (name, view, gate == decisive and number == one.index))
        for gate, (name, one) in enumerate(zip(names, found, strict=True))
        for number, (view, decision) in enumerate(one.views)
    ]
    if len(told) > MAX_TOLD_VIEWS:
        worst = sorted(range(len(told)), key=lambda at: (told[at][1][2], told[at][0].rank), reverse=True)
        told = [told[at] for at in sorted(worst[:MAX_TOLD_VIEWS])]
    return tuple(
        JudgedView(
            bundle=name,
            frame=view.frame,
            background=view.background,
            box=view.region,
            action=decision.action,
            category=decision.category,
            level=decision.level,
            score=decision.score,
            error=decision.error,
            decides=decides,
        )
        for decision, (name, view, decides) in told
    )


def _merged(names: Sequence[str], decisions: Sequence[Decision]) -> dict[str, float]:
    """All probabilities; a category that several bundles have is told apart as `bundle/category`."""
    count = Counter(category for decision in decisions for category in decision.categories)
    return {
        category if count[category] == 1 else f"{name}/{category}": value
        for name, decision in zip(names, decisions, strict=True)
        for category, value in decision.categories.items()
    }
