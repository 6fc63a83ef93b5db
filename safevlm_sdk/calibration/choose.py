"""From one number per group to the step of a family that keeps the bounds, or a refusal that says what it would take.

Let V be a group's last flagged step and r(s) = P(V >= s), which falls with s. Of n harmless groups, at most k may be
flagged, where k is the largest number with P(Binomial(n, bound) <= k) <= delta: it depends on no outcome. Take the
smallest step s that at most k groups reach. If r(s) exceeded the bound, s would lie below the first step s0 with
r(s0) <= bound, so at most k groups would reach s0 - 1, where r exceeds the bound: that has a probability of at most
delta. Ties make s larger, never smaller. Misses are the same from below, and since errors of one kind fall and of the
other rise with s, bounds of both kinds hold together wherever the two ranges of steps meet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.calibration.bounds import (
    CONFIDENCE,
    allowed_errors,
    groups_needed,
    groups_needed_at,
    upper_bound,
)
from safevlm_sdk.calibration.record import Rate
from safevlm_sdk.errors import BoundsContradict, BoundUnsupported, OptionError

NAMED = 3
SMALLEST = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The bounds that are asked for, each a rate between 0 and 1, and the confidence in all of them together."""

    flag_at_most: float | None = None
    miss_at_most: float | None = None
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        if self.flag_at_most is None and self.miss_at_most is None:
            raise OptionError("no bound is asked for; give --flag-at-most, --miss-at-most or both")
        for name, value in (("flag-at-most", self.flag_at_most), ("miss-at-most", self.miss_at_most)):
            if value is not None and not 0.0 < value < 1.0:
                raise OptionError(f"--{name} is {value}; give a rate between 0 and 1, as 0.005 for one in 200")
            if value is not None and value < SMALLEST:
                raise OptionError(
                    f"--{name} is {value}, and no bound below {SMALLEST:g} is taken: it would take hundreds of "
                    "millions of images; give a larger rate"
                )
        if not 0.5 <= self.confidence < 1.0:
            raise OptionError(f"--confidence is {self.confidence}; it must lie in 0.5 to 1, 1 excluded, as 0.95")

    def each(self, categories: int) -> float:
        """The confidence of each bound, so that all of them hold together; misses are bounded per category."""
        bounds = (self.flag_at_most is not None) + (categories if self.miss_at_most is not None else 0)
        return 1.0 - (1.0 - self.confidence) / bounds


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Groups:
    """Independent groups of images.

    Attributes:
        values: int64 [G], the last step at which a group is flagged: of its worst harmless image the largest, of its
            worst risky image the smallest.
        names: [G], a name of one image of each.
        images: How many images they are.
    """

    values: NDArray[np.int64]
    names: Sequence[str]
    images: int

    def errors(self, kind: str, step: int) -> NDArray[np.bool_]:
        """[G], True where a group is flagged at a step, or missed."""
        wrong: NDArray[np.bool_] = self.values >= step if kind == "flag" else self.values < step
        return wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A step, and what is known of the errors at it."""

    step: int
    rates: tuple[Rate, ...]


def choose(safe: Groups, risky: Mapping[str, Groups], steps: int, demand: Demand) -> Choice:
    """The step that keeps every bound.

    With a flag bound it is the softest that keeps it, so that as much as possible is caught; else it is the hardest
    that keeps the miss bounds. It is never the family's last one, at which the gate would be off.

    Args:
        safe: Harmless groups.
        risky: Risky groups per category; a miss bound is on each of them.
        steps: Of the family.
        demand: The bounds.

    Raises:
        BoundUnsupported: There are too few groups to show a bound.
        BoundsContradict: No step keeps the bounds on these images.
    """
    each = demand.each(len(risky))
    allowed = {name: _allowed(name, groups, demand, each) for name, groups in (("", safe), *risky.items())}
    if demand.flag_at_most is not None:
        step = _first_step(safe, allowed[""] or 0, steps)
    else:
        hardest = min(_last_step(name, groups, allowed[name] or 0) for name, groups in risky.items())
        step = min(hardest, steps - 2)
    if demand.flag_at_most is not None and demand.miss_at_most is not None:
        for name, groups in risky.items():
            _test_misses(name, groups, safe, step, demand, each)
    rates = [
        _rate(name, groups, step, demand, each, allowed[name])
        for name, groups in (("", safe), *risky.items())
        if len(groups.values)
    ]
    return Choice(step=step, rates=tuple(rates))


def _allowed(name: str, groups: Groups, demand: Demand, each: float) -> int | None:
    """How many groups may err; None where nothing was asked."""
    at_most = demand.miss_at_most if name else demand.flag_at_most
    if at_most is None:
        return None
    count = len(groups.values)
    allowed = allowed_errors(count, at_most, each)
    if allowed is None:
        what = f"groups of {name} images, all of them caught," if name else "groups of harmless images, none flagged,"
        best = f"; the tightest that {count} can show is {_percent(upper_bound(0, count, each))}" if count else ""
        raise BoundUnsupported(
            f"{'a miss' if name else 'a flag'} bound of {_percent(at_most)} at {_percent(each)} confidence takes "
            f"{groups_needed(at_most, each)} {what} and there are {count} (of {groups.images} images){best}. "
            f"Add images, or raise --{'miss' if name else 'flag'}-at-most"
        )
    return allowed


def _first_step(safe: Groups, allowed: int, steps: int) -> int:
    """The softest step that at most `allowed` groups reach; the last one, which flags next to nothing, is refused."""
    step = max(0, int(np.sort(safe.values)[::-1][allowed]) + 1)
    if step >= steps - 1:
        always = [name for name, value in zip(safe.names, safe.values, strict=True) if value >= steps - 2]
        raise BoundsContradict(
            f"{len(always)} of {len(safe.values)} harmless groups are not ALLOW even at the hardest thresholds, and "
            f"{allowed} may be: the gate fails on them, or gives a risk a probability of almost 1; thresholds of 1 "
            f"would switch it off. {_named(always)}; mend or remove files that are no harmless images, or raise "
            "--flag-at-most"
        )
    return step


def _last_step(name: str, groups: Groups, allowed: int) -> int:
    """The hardest step at which at most `allowed` groups are missed."""
    step = int(np.sort(groups.values)[allowed])
    if step < 0:
        never = [name for name, value in zip(groups.names, groups.values, strict=True) if value < 0]
        raise BoundsContradict(
            f"{len(never)} of {len(groups.values)} groups of {name} images are ALLOW even at the softest thresholds, "
            f"and {allowed} may be: the gate does not see them, or the policy allows their level. {_named(never)}; "
            "train on images like these, or raise --miss-at-most"
        )
    return step


def _test_misses(name: str, groups: Groups, safe: Groups, step: int, demand: Demand, each: float) -> None:
    """Tests a miss bound at thresholds that the risky images did not choose."""
    at_most, flag_at_most = demand.miss_at_most or 0.0, demand.flag_at_most or 0.0
    missed, count = int(groups.errors("miss", step).sum()), len(groups.values)
    found = upper_bound(missed, count, each)
    if found <= at_most:
        return
    said = (
        f"at the thresholds that keep flags at {_percent(flag_at_most)}, {missed} of {count} groups of {name} images "
        f"are missed, at most {_percent(found)} of all at {_percent(each)} confidence, and {_percent(at_most)} may be"
    )
    needed = groups_needed_at(missed / count, at_most, each)
    if needed is not None:
        raise BoundUnsupported(
            f"{said}. If so few go on to be missed, about {needed} groups would show it: add images, or raise a bound"
        )
    softer = int(np.sort(groups.values)[allowed_errors(count, at_most, each) or 0])
    flagged = int(safe.errors("flag", softer).sum())
    takes = upper_bound(flagged, len(safe.values), each)
    way = (
        f"thresholds that catch enough flag {flagged} of {len(safe.values)} harmless groups: it takes a flag bound of"
    )
    raise BoundsContradict(
        f"{said}. The two bounds contradict each other on this gate, whatever the number of images: "
        + (f"{way} about {_percent(takes)}, " if softer >= 0 else "no thresholds catch enough of them; ")
        + "raise a bound, or train a better gate"
    )


def _rate(name: str, groups: Groups, step: int, demand: Demand, each: float, allowed: int | None) -> Rate:
    kind, at_most = ("miss", demand.miss_at_most) if name else ("flag", demand.flag_at_most)
    count, errors = len(groups.values), int(groups.errors(kind, step).sum())
    chosen_from = allowed is not None and (not name or demand.flag_at_most is None)
    confidence = demand.confidence if at_most is None else each
    return Rate(
        kind="miss" if name else "flag",
        category=name or None,
        at_most=at_most,
        confidence=confidence,
        images=groups.images,
        groups=count,
        errors=errors,
        allowed=allowed,
        # Where the step was chosen from these very groups, only the number fixed beforehand bounds the rate.
        upper_bound=upper_bound(allowed if allowed is not None and chosen_from else errors, count, confidence),
    )


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"They hold {', '.join(repr(name) for name in names[:NAMED])}{more}"


def _percent(rate: float) -> str:
    return f"{100 * rate:.4g} %"
