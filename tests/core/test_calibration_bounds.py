"""Exact bounds, the choice among nested thresholds, and what a refusal says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from safevlm_sdk.calibration.bounds import (
    allowed_errors,
    errors_that_agree,
    groups_needed,
    groups_needed_at,
    lower_bound,
    upper_bound,
)
from safevlm_sdk.calibration.choose import Choice, Demand, Groups, choose
from safevlm_sdk.errors import BoundsContradict, BoundUnsupported, OptionError

STEPS = 100_001
NONE: dict[str, Groups] = {}


def groups(values, prefix: str = "image") -> Groups:
    found = np.asarray(values, dtype=np.int64)
    return Groups(values=found, names=tuple(f"{prefix}-{n}" for n in range(len(found))), images=len(found))


def drawn(rng, size: int, a: float = 1.0, b: float = 8.0) -> Groups:
    return groups(np.floor(rng.beta(a, b, size) * (STEPS - 1)))


def true_rate(choice: Choice, a: float = 1.0, b: float = 8.0) -> float:
    return float(beta.sf(choice.step / (STEPS - 1), a, b))


@pytest.mark.parametrize(("errors", "count"), [(0, 299), (0, 10), (3, 50), (49, 50)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.975])
def test_bounds_are_the_exact_binomial_ones(errors: int, count: int, confidence: float) -> None:
    assert binom.cdf(errors, count, upper_bound(errors, count, confidence)) == pytest.approx(1 - confidence)
    if errors:
        assert binom.sf(errors - 1, count, lower_bound(errors, count, confidence)) == pytest.approx(1 - confidence)


def test_299_groups_without_an_error_show_one_percent() -> None:
    assert groups_needed(0.01) == 299
    assert groups_needed(0.001) == 2995
    assert allowed_errors(298, 0.01) is None
    assert allowed_errors(299, 0.01) == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.floats(0.0005, 0.5), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_allowed_errors_are_the_most_that_show_the_bound(count: int, rate: float, confidence: float) -> None:
    found = allowed_errors(count, rate, confidence)
    shown = np.flatnonzero(binom.cdf(np.arange(count), count, rate) <= 1 - confidence)
    assert found == (shown[-1] if len(shown) else None)
    if found is not None:
        assert upper_bound(found, count, confidence) <= rate * (1 + 1e-9)
        assert groups_needed(rate, confidence, found) <= count
    else:
        assert groups_needed(rate, confidence) > count


@pytest.mark.parametrize("confidence", [0.5, 0.95, 1 - 2**-53])
def test_the_smallest_bound_that_is_taken_can_be_counted(confidence: float) -> None:
    assert groups_needed(1e-9, confidence) == pytest.approx(-np.log1p(-confidence) / 1e-9, rel=1e-6)
    with pytest.raises(BoundUnsupported, match="and there are 300"):
        choose(groups([5] * 300), NONE, STEPS, Demand(flag_at_most=1e-9, confidence=confidence))
    for tiny in ({"flag_at_most": 1e-19}, {"flag_at_most": 0.1, "miss_at_most": 9e-10}):
        with pytest.raises(OptionError, match="no bound below 1e-09 is taken"):
            Demand(**tiny)


def test_what_it_would_take_at_a_rate_that_was_seen() -> None:
    needed = groups_needed_at(0.005, 0.01)
    assert needed is not None
    assert upper_bound(round(0.005 * needed), needed) <= 0.0101
    assert groups_needed_at(0.01, 0.01) is None


@pytest.mark.parametrize(("count", "rate"), [(341, 0.02), (10, 0.5), (1, 0.001), (5000, 0.01)])
def test_errors_that_agree_with_a_rate_are_its_quantile(count: int, rate: float) -> None:
    assert errors_that_agree(count, rate) == binom.ppf(0.95, count, rate)


@pytest.mark.parametrize(("size", "bound"), [(300, 0.01), (1000, 0.01), (3000, 0.005), (500, 0.05)])
def test_a_flag_bound_is_kept_in_95_of_100_repetitions(size: int, bound: float) -> None:
    """Though the same images choose the thresholds; their true rate is known, for the scores are drawn."""
    rng = np.random.default_rng(1)
    demand = Demand(flag_at_most=bound)
    kept = [true_rate(choose(drawn(rng, size), NONE, STEPS, demand)) <= bound for _ in range(1000)]
    assert np.mean(kept) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 1000)
    # A threshold that merely flags at most that share of the images at hand is too soft about every second time.
    naive = []
    for _ in range(300):
        found = drawn(rng, size)
        step = int(np.sort(found.values)[::-1][int(bound * size)]) + 1
        naive.append(true_rate(Choice(step=step, rates=())) <= bound)
    assert np.mean(naive) < 0.8


def test_it_is_met_on_a_held_out_half_in_95_of_100_repetitions() -> None:
    """A share counted on a half scatters by itself: that it lies below the bound, too, takes more confidence."""
    rng = np.random.default_rng(2)
    agrees = below = 0
    for _ in range(100):
        step = choose(drawn(rng, 2000), NONE, STEPS, Demand(flag_at_most=0.01)).step
        agrees += int(drawn(rng, 2000).errors("flag", step).sum()) <= errors_that_agree(2000, 0.01)
        step = choose(drawn(rng, 2000), NONE, STEPS, Demand(flag_at_most=0.01, confidence=0.99)).step
        below += int(drawn(rng, 2000).errors("flag", step).sum()) <= 20
    assert agrees >= 95
    assert below >= 95


def test_ties_never_flag_more_than_is_allowed() -> None:
    rng = np.random.default_rng(3)
    coarse = groups(rng.integers(0, 12, 2000))
    choice = choose(coarse, NONE, STEPS, Demand(flag_at_most=0.1))
    (rate,) = choice.rates
    assert rate.errors <= (rate.allowed or 0)
    assert coarse.errors("flag", choice.step - 1).sum() > (rate.allowed or 0)


def test_200_harmless_images_cannot_show_one_in_a_thousand() -> None:
    with pytest.raises(BoundUnsupported) as refused:
        choose(groups([5] * 200), NONE, STEPS, Demand(flag_at_most=0.001))
    said = str(refused.value)
    assert "a flag bound of 0.1 % at 95 % confidence takes 2995 groups" in said
    assert "there are 200 (of 200 images)" in said
    assert "the tightest that 200 can show is 1.487 %" in said


def test_images_that_are_always_flagged_are_named() -> None:
    always = groups([10] * 300 + [STEPS - 1])
    with pytest.raises(BoundsContradict, match=r"1 of 301 harmless groups .* 'image-300'"):
        choose(always, NONE, STEPS, Demand(flag_at_most=0.01))


def test_thresholds_that_switch_the_gate_off_are_no_answer() -> None:
    """The last step flags only a probability of 1, and so nearly nothing, whatever the images are."""
    with pytest.raises(BoundsContradict, match=r"1 of 300 harmless groups .* even at the hardest .* 'image-299'"):
        choose(groups([10] * 299 + [STEPS - 2]), NONE, STEPS, Demand(flag_at_most=0.01))
    just_below = choose(groups([10] * 299 + [STEPS - 3]), NONE, STEPS, Demand(flag_at_most=0.01))
    assert just_below.step == STEPS - 2
    certain = {"privacy": groups([STEPS - 1] * 300)}
    assert choose(groups([10] * 5), certain, STEPS, Demand(miss_at_most=0.01)).step == STEPS - 2


def test_miss_bounds_alone_choose_the_hardest_step_that_keeps_all_of_them() -> None:
    rng = np.random.default_rng(4)
    kept = []
    for _ in range(400):
        risky = {"privacy": drawn(rng, 500, 8, 1), "illegal_risk": drawn(rng, 400, 6, 1)}
        choice = choose(drawn(rng, 50), risky, STEPS, Demand(miss_at_most=0.02))
        rates = [beta.cdf(choice.step / (STEPS - 1), a, 1) for a in (8, 6)]
        kept.append(max(rates) <= 0.02)
    assert np.mean(kept) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400)
    flag, *misses = choice.rates
    assert (flag.kind, flag.at_most, flag.allowed, flag.confidence) == ("flag", None, None, 0.95)
    assert [rate.category for rate in misses] == ["privacy", "illegal_risk"]
    assert all(rate.errors <= (rate.allowed or 0) for rate in misses)
    assert all(rate.confidence == pytest.approx(0.975) for rate in misses)
    assert any(
        groups_.errors("miss", choice.step + 1).sum() > (rate.allowed or 0)
        for groups_, rate in zip(risky.values(), misses, strict=True)
    )


def test_both_bounds_share_the_doubt_and_hold_together() -> None:
    rng = np.random.default_rng(5)
    risky = {"privacy": drawn(rng, 600, 40, 1)}
    choice = choose(drawn(rng, 800), risky, STEPS, Demand(flag_at_most=0.01, miss_at_most=0.01))
    flag, miss = choice.rates
    assert flag.confidence == miss.confidence == pytest.approx(0.975)
    assert flag.upper_bound <= 0.01
    assert miss.upper_bound <= 0.01
    assert flag.upper_bound == pytest.approx(upper_bound(flag.allowed or 0, 800, 0.975))
    assert miss.upper_bound == pytest.approx(upper_bound(miss.errors, 600, 0.975))


def test_too_few_risky_groups_is_not_a_contradiction() -> None:
    rng = np.random.default_rng(6)
    demand = Demand(flag_at_most=0.01, miss_at_most=0.01)
    with pytest.raises(BoundUnsupported, match=r"takes 368 groups of privacy images, all of them caught, .* are 50"):
        choose(drawn(rng, 800), {"privacy": groups([STEPS - 2] * 50)}, STEPS, demand)
    one_missed = {"privacy": groups([0] + [STEPS - 2] * 399)}
    with pytest.raises(BoundUnsupported, match=r"1 of 400 groups of privacy images are missed.*about \d+ groups"):
        choose(drawn(rng, 800), one_missed, STEPS, demand)


def test_contradictory_bounds_say_which_flag_bound_it_would_take() -> None:
    rng = np.random.default_rng(7)
    risky = {"privacy": drawn(rng, 800, 3, 3)}
    safe = drawn(rng, 800)
    with pytest.raises(BoundsContradict) as refused:
        choose(safe, risky, STEPS, Demand(flag_at_most=0.01, miss_at_most=0.01))
    said = str(refused.value)
    assert "contradict each other" in said
    takes = float(said.split("it takes a flag bound of about ")[1].split(" %")[0]) / 100
    choose(safe, risky, STEPS, Demand(flag_at_most=takes * 1.02, miss_at_most=0.01))


def test_risky_images_that_nothing_catches_are_named() -> None:
    with pytest.raises(BoundsContradict, match=r"1 of 500 groups of privacy images are ALLOW .* 'scan-0'"):
        choose(groups([1] * 10), {"privacy": groups([-1] + [50] * 499, "scan")}, STEPS, Demand(miss_at_most=0.008))


@pytest.mark.parametrize(
    "bounds",
    [{}, {"flag_at_most": 0.0}, {"flag_at_most": 1.0}, {"miss_at_most": -1.0}, {"flag_at_most": float("nan")},
     {"flag_at_most": 0.1, "confidence": 1.0}, {"flag_at_most": 0.1, "confidence": 0.4}],
)  # fmt: skip
def test_impossible_demands_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="--"):
        Demand(**bounds)
