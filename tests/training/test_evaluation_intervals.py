"""Intervals hold what they say: checked against scipy, by hand, and on simulated images whose rate is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from safevlm_training.evaluation.intervals import clopper_pearson, effective_size, rate
from safevlm_training.evaluation.ranking import rank_figures
from safevlm_training.evaluation.resampling import Evidence, bootstrapped, resample, tail


@pytest.mark.parametrize(("count", "size"), [(0, 10), (1, 10), (6, 372), (10, 10), (769, 800)])
def test_clopper_pearson_equals_scipy(count, size):
    expected = binomtest(count, size).proportion_ci(0.95, method="exact")
    assert clopper_pearson(count, size) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_images_that_stand_alone_get_the_exact_interval():
    hits = np.arange(40) < 3
    found = rate(hits, np.ones(40, dtype=bool), np.arange(40), absent="none")
    assert (found.value, found.count, found.images, found.groups) == (3 / 40, 3, 40, 40)
    assert found.method == "exact"
    assert (found.low, found.high) == clopper_pearson(3, 40)


def test_only_the_images_among_count():
    hits, among = np.array([True, True, False, True]), np.array([True, False, True, False])
    found = rate(hits, among, np.array([0, 1, 2, 0]), absent="none")
    assert (found.count, found.images, found.groups) == (1, 2, 2)


def test_images_that_are_all_alike_count_as_one_per_group():
    groups = np.repeat(np.arange(50), 20)
    hits = groups % 5 == 0
    sizes = np.bincount(groups)
    assert effective_size(np.bincount(groups, weights=hits), sizes) == pytest.approx(50, rel=0.1)
    found = rate(hits, np.ones(1000, dtype=bool), groups, absent="none")
    alone = rate(hits[::20], np.ones(50, dtype=bool), np.arange(50), absent="none")
    assert found.high - found.low == pytest.approx(alone.high - alone.low, rel=0.1)


def test_the_effective_size_is_that_of_the_textbook():
    counts, sizes = np.array([1.0, 0.0, 3.0, 4.0]), np.array([2, 2, 4, 4])
    share = 8 / 12
    residuals = [1 - 2 * share, 0 - 2 * share, 3 - 4 * share, 4 - 4 * share]
    variance = 4 / 3 * sum(value**2 for value in residuals) / 12**2
    fewness = (2.2009851600916384 / 3.1824463052837078) ** 2  # Student's t at .975 with 11 and with 3 degrees
    assert effective_size(counts, sizes) == pytest.approx(share * (1 - share) / variance * fewness)
    assert effective_size(np.array([1.0, 1.0]), np.array([2, 2])) == 4.0


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_or_everything_is_bounded_by_the_number_of_groups(share):
    groups = np.repeat(np.arange(8), 50)
    found = rate(np.full(400, share == 1.0), np.ones(400, dtype=bool), groups, absent="none")
    assert found.value == share
    assert (found.low, found.high) == clopper_pearson(8 * share, 8)
    assert found.high - found.low > 0.3


def test_one_group_and_no_image_give_no_interval():
    one = rate(np.array([True, False]), np.ones(2, dtype=bool), np.zeros(2, dtype=int), absent="none")
    assert (one.value, one.low, one.high) == (0.5, None, None)
    assert "one group" in one.note
    nothing = rate(np.ones(2, dtype=bool), np.zeros(2, dtype=bool), np.arange(2), absent="no safe image")
    assert (nothing.value, nothing.low, nothing.note) == (None, None, "no safe image")


@pytest.mark.parametrize(("groups", "size", "share"), [(8, 7, 0.05), (8, 25, 0.2), (32, 25, 0.5), (100, 5, 0.05)])
def test_intervals_of_clustered_rates_hold_the_true_rate(groups, size, share):
    rng = np.random.default_rng(groups)
    held = 0
    for _ in range(300):
        sizes = 1 + rng.poisson(size - 1, groups)
        names = np.repeat(np.arange(groups), sizes)
        hits = rng.random(len(names)) < rng.beta(4 * share, 4 * (1 - share), groups)[names]
        found = rate(hits, np.ones(len(names), dtype=bool), names, absent="none")
        held += found.low <= share <= found.high
    assert held >= 0.91 * 300


def test_bootstrap_intervals_of_a_clustered_auroc_hold_the_true_one():
    rng = np.random.default_rng(5)
    truth = np.repeat([True, False], [100, 200])
    groups = np.concatenate([np.repeat(np.arange(20), 5), 20 + np.repeat(np.arange(40), 5)])
    true = 0.760250  # P(x > y) of normal scores of variance 2 whose means are sqrt(2) apart
    held = 0
    for _ in range(150):
        score = rng.normal(size=60)[groups] + rng.normal(size=300) + np.sqrt(2) * truth
        found = rank_figures(truth, score, np.arange(300), resample(groups, truth.astype(int), count=200))["auroc"]
        held += found.low <= true <= found.high
    assert held >= 0.88 * 150


def test_groups_are_drawn_as_a_whole_and_within_their_label():
    groups = np.array([0, 0, 1, 2, 3, 3, 4])
    types = np.array([0, 0, 0, 0, 1, 1, 1])
    draws = resample(groups, types, count=500, seed=1)
    assert draws.counts.shape == (500, 5)
    assert (draws.counts[:, :3].sum(axis=1) == 3).all()
    assert (draws.counts[:, 3:].sum(axis=1) == 2).all()
    assert draws.counts[:, 0].std() > 0.5
    np.testing.assert_array_equal(draws.counts, resample(groups, types, count=500, seed=1).counts)
    assert (draws.counts != resample(groups, types, count=500, seed=2).counts).any()


def test_both_ways_of_resampling_agree_with_repetition():
    rng = np.random.default_rng(0)
    groups, values = rng.integers(0, 6, 30), rng.normal(size=(30, 2))
    groups[:6] = np.arange(6)
    draws = resample(groups, np.zeros(30, dtype=int), count=20)
    repeated = np.array([np.repeat(values, counts[groups], axis=0).sum(axis=0) for counts in draws.counts])
    np.testing.assert_allclose(draws.sums(values), repeated)
    np.testing.assert_allclose(draws.draw(lambda weights: weights @ values, np.arange(30)), repeated)


def test_percentiles_widen_when_groups_are_few():
    assert tail(10_000) == pytest.approx(0.025, rel=0.01)
    assert tail(8) < 0.007
    draws = np.linspace(0.0, 1.0, 1001)
    few = bootstrapped(0.5, draws, Evidence(images=80, groups=8, rarer=8))
    many = bootstrapped(0.5, draws, Evidence(images=8000, groups=8000, rarer=8000))
    assert few.low < many.low < 0.03 < 0.97 < many.high < few.high


@pytest.mark.parametrize(
    ("value", "draws", "rarer", "note"),
    [
        (np.nan, np.full(100, 0.5), 9, "not defined"),
        (0.5, np.linspace(0, 1, 100), 1, "one group"),
        (0.5, np.full(100, 0.5), 9, "equal in every resample"),
        (0.5, np.where(np.arange(100) < 80, np.linspace(0, 1, 100), np.nan), 9, "too many resamples"),
    ],
)
def test_what_has_no_interval_says_why(value, draws, rarer, note):
    found = bootstrapped(value, draws, Evidence(images=20, groups=10, rarer=rarer))
    assert (found.low, found.high, found.method) == (None, None, "none")
    assert note in found.note
