"""A calibration from judged images to thresholds and the evidence for them; it touches no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.calibration.choose import Choice, Demand, Groups, choose
from safevlm_sdk.calibration.family import NEVER, Family, check_policy, family_of, last_step, present_step
from safevlm_sdk.calibration.note import note_of
from safevlm_sdk.calibration.record import CalibrationRecord
from safevlm_sdk.calibration.samples import Grouped, Sample, sets_temperature
from safevlm_sdk.calibration.temperature import fit_temperature
from safevlm_sdk.decision import Rule, decide
from safevlm_sdk.errors import BoundUnsupported
from safevlm_sdk.manifest import Calibration, Thresholds
from safevlm_sdk.margins import NEAR, threshold_margin
from safevlm_sdk.policy import Action, Policy
from safevlm_sdk.taxonomy import SAFE
from safevlm_sdk.view_plan import ViewPlan

MIN_PER_TYPE = 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """What is calibrated.

    Attributes:
        name: For people.
        digest: Of the bundle or checkpoint.
        rule: Its present temperature and thresholds.
        risks: Every category of its taxonomy, covered or not.
        policy: Under which the bounds hold.
        logit_error: Largest error of the type logits that a graph showed on the proof images; 0 for a checkpoint.
        view_plan: The views that its images are judged by; None for a checkpoint.
    """

    name: str
    digest: str
    rule: Rule
    risks: tuple[str, ...]
    policy: Policy
    logit_error: float
    view_plan: ViewPlan | None = None

    @property
    def judged(self) -> tuple[str, ...]:
        """The covered risks that the policy wants."""
        return tuple(name for name in self.rule.covered if name in self.policy.actions)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """A finished calibration.

    Attributes:
        subject: What was calibrated.
        demand: The bounds.
        calibration: The new one, with its record.
        thresholds: The new ones.
        family: Among which the thresholds were chosen.
        step: The chosen one.
        present: Where the present thresholds stand among them; None where no step has their meaning.
        safe: Harmless groups.
        risky: Risky groups per category.
        flagged: Names of the harmless images that are still flagged.
        flagged_before: How many of the harmless groups the present temperature and thresholds flag.
        data: Every image with its group.
    """

    subject: Subject
    demand: Demand
    calibration: Calibration
    thresholds: Thresholds
    family: Family
    step: int
    present: int | None
    safe: Groups
    risky: Mapping[str, Groups]
    flagged: tuple[str, ...]
    flagged_before: int
    data: Grouped

    @property
    def record(self) -> CalibrationRecord:
        """The record, which a calibration that was made here always has."""
        record = self.calibration.record
        if record is None:
            raise ValueError("the calibration has no record")
        return record


def calibrate(subject: Subject, data: Grouped, demand: Demand) -> Outcome:
    """Sets temperature and thresholds.

    A quarter of the groups sets the temperature where there are risky images, and at least 10 groups of every type
    among that quarter; otherwise the temperature stays and every group counts for the thresholds.

    Raises:
        CalibrationError: The policy or the bounds do not allow it; the message says what it would take.
    """
    check_policy(subject.policy, subject.rule.covered)
    fitted = _temperature(subject, data)
    temperature = subject.rule.temperature if fitted is None else fitted
    rule = replace(subject.rule, temperature=temperature)
    family = family_of(subject.rule, temperature)
    kept = [fitted is None or not sets_temperature(group) for group in data.groups]
    steps = [
        _step_of(s, rule, subject.policy, family) if k else NEVER for s, k in zip(data.samples, kept, strict=True)
    ]
    safe = _groups(data, steps, kept, SAFE)
    risky = {name: _groups(data, steps, kept, name) for name in subject.judged if _wanted(name, data, demand)}
    lost = len({group for group, used in zip(data.groups, kept, strict=True) if not used})
    choice = _choose(safe, risky, family, demand, lost)
    thresholds = family.at(choice.step)
    new_rule = replace(rule, thresholds=thresholds.categories, any_threshold=thresholds.any)
    record = _record(subject, data, choice, demand, lost, new_rule)
    return Outcome(
        subject=subject,
        demand=demand,
        calibration=Calibration(
            method="temperature",
            temperature=temperature,
            risky_groups=sum(len(groups.values) for groups in risky.values()),
            safe_groups=len(safe.values),
            note=note_of(record, temperature_kept=fitted is None),
            record=record,
        ),
        thresholds=thresholds,
        family=family,
        step=choice.step,
        present=present_step(subject.rule, temperature, family),
        safe=safe,
        risky=risky,
        flagged=tuple(
            sample.image.name
            for sample, step, used in zip(data.samples, steps, kept, strict=True)
            if used and sample.image.category == SAFE and step >= choice.step
        ),
        flagged_before=_flagged_before(subject, data, kept),
        data=data,
    )


def _flagged_before(subject: Subject, data: Grouped, kept: Sequence[bool]) -> int:
    """Harmless groups of which an image is not ALLOW as the subject decides now; a failing gate never allows."""
    rows = zip(data.samples, data.groups, kept, strict=True)
    harmless = [(sample, group) for sample, group, used in rows if used and sample.image.category == SAFE]
    return len({group for sample, group in harmless if not _is_allowed(sample, subject)})


def _is_allowed(sample: Sample, subject: Subject) -> bool:
    if sample.error is not None:
        return False
    views = zip(sample.type_logits, sample.level_logprobs, strict=True)
    return all(decide(types, levels, subject.rule, subject.policy).action is Action.ALLOW for types, levels in views)


def _choose(safe: Groups, risky: Mapping[str, Groups], family: Family, demand: Demand, lost: int) -> Choice:
    try:
        return choose(safe, risky, family.steps, demand)
    except BoundUnsupported as problem:
        if not lost:
            raise
        raise BoundUnsupported(
            f"{problem} ({lost} more groups set the temperature, and so no threshold)"
        ) from problem


def _temperature(subject: Subject, data: Grouped) -> float | None:
    """Fitted on the quarter of the groups that is for it; None where it holds too few groups of some type."""
    rule = subject.rule
    types = [*rule.labels] if SAFE in rule.labels else [*rule.labels, SAFE]
    rows: list[NDArray[np.float64]] = []
    truth: list[int] = []
    seen: dict[str, set[str]] = {name: set() for name in types}
    for sample, group in zip(data.samples, data.groups, strict=True):
        if sample.error is None and sets_temperature(group) and np.isfinite(sample.type_logits).all():
            rows.append(np.asarray(sample.type_logits[0], dtype=np.float64))
            truth.append(types.index(sample.image.category))
            seen[sample.image.category].add(group)
    if any(len(groups) < MIN_PER_TYPE for groups in seen.values()):
        return None
    return fit_temperature(np.array(rows), np.array(truth, dtype=np.int64), rule.labels, rule.activation)


def _step_of(sample: Sample, rule: Rule, policy: Policy, family: Family) -> int:
    """The last step at which some view of an image is not ALLOW; a failing gate never allows."""
    last = family.steps - 1
    if sample.error is not None:
        return last
    pairs = zip(sample.type_logits, sample.level_logprobs, strict=True)
    found = [last_step(types, levels, rule, policy, family) for types, levels in pairs]
    return max(last if step is None else step for step in found)


def _wanted(category: str, data: Grouped, demand: Demand) -> bool:
    return demand.miss_at_most is not None or any(sample.image.category == category for sample in data.samples)


def _groups(data: Grouped, steps: Sequence[int], kept: Sequence[bool], category: str) -> Groups:
    """One number per group: of its worst image. Risky images on which the gate fails do not count as caught."""
    worst: dict[str, tuple[int, str]] = {}
    images = 0
    for sample, group, step, used in zip(data.samples, data.groups, steps, kept, strict=True):
        if not used or sample.image.category != category or (category != SAFE and sample.error is not None):
            continue
        images += 1
        known = worst.get(group)
        if known is None or (step > known[0] if category == SAFE else step < known[0]):
            worst[group] = step, sample.image.name
    names = sorted(worst)
    return Groups(
        values=np.array([worst[name][0] for name in names], dtype=np.int64),
        names=tuple(worst[name][1] for name in names),
        images=images,
    )


def _margins(data: Grouped, rule: Rule, subject: Subject) -> list[float]:
    """How near the nearest view of each judged image is to a threshold."""
    return [
        min(threshold_margin(view, rule, subject.policy) for view in sample.type_logits)
        for sample in data.samples
        if sample.error is None
    ]


def _record(
    subject: Subject, data: Grouped, choice: Choice, demand: Demand, lost: int, rule: Rule
) -> CalibrationRecord:
    margins = _margins(data, rule, subject)
    # A logit that moves by e moves a probability by at most e / 2T, whichever logits move with it.
    turning = subject.logit_error / (2.0 * rule.temperature)
    return CalibrationRecord(
        came_from=subject.digest,
        policy=subject.policy.digest,
        images=data.digest,
        rates=choice.rates,
        confidence=demand.confidence,
        temperature_groups=lost,
        failed=sum(sample.error is not None for sample in data.samples),
        near_threshold=sum(margin < NEAR for margin in margins),
        undecided=sum(margin <= turning for margin in margins),
        view_plan=subject.view_plan,
    )
