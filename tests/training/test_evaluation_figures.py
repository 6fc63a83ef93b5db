"""Figures against scikit-learn and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from safevlm_sdk.decision import Rule, decide
from safevlm_sdk.policy import default_policy_text, parse_policy
from safevlm_training.evaluation.calibration import BINS, calibration_figures, equal_mass
from safevlm_training.evaluation.charts import Axis, Line, Mark, chart
from safevlm_training.evaluation.figures import class_figures
from safevlm_training.evaluation.intervals import clopper_pearson
from safevlm_training.evaluation.levels import kappa, mean_error
from safevlm_training.evaluation.ranking import POINTS, Ranked, curves, paired, rank_figures, recall_at
from safevlm_training.evaluation.resampling import resample
from safevlm_training.evaluation.sample import log_odds, sigmoid
from safevlm_training.metrics import FPRS


def noisy(seed, size=120, ties=False):
    rng = np.random.default_rng(seed)
    truth = rng.random(size) < 0.3
    score = rng.normal(size=size) + truth
    return truth, np.round(score) if ties else score, rng


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_weighted_ranking_equals_sklearn(seed, ties):
    truth, score, rng = noisy(seed, ties=ties)
    weights = rng.integers(0, 4, (3, len(truth))).astype(float)
    for row, found in zip(weights, Ranked(truth, score).statistics(weights), strict=True):
        kept = row > 0
        false_alarms, hits, _ = reference.roc_curve(truth[kept], score[kept], sample_weight=row[kept])
        expected = [
            reference.roc_auc_score(truth, score, sample_weight=row),
            reference.average_precision_score(truth, score, sample_weight=row),
            *(hits[false_alarms <= fpr + 1e-12].max() for fpr in FPRS),
        ]
        assert found == pytest.approx(expected)


def test_figures_on_the_images_themselves_equal_sklearn():
    truth, score, _ = noisy(1)
    said = score > 0.7
    draws = resample(np.arange(120), truth.astype(int), count=100)
    found = class_figures(truth, said, draws)
    assert found["precision"].value == pytest.approx(reference.precision_score(truth, said))
    assert found["recall"].value == pytest.approx(reference.recall_score(truth, said))
    assert found["f1"].value == pytest.approx(reference.f1_score(truth, said))
    assert found["false_positive_rate"].value == pytest.approx(said[~truth].mean())
    assert found["f1"].low < found["f1"].value < found["f1"].high
    assert found["recall"].method == "exact"
    ranks = rank_figures(truth, score, np.arange(120), draws)
    assert ranks["auroc"].value == pytest.approx(reference.roc_auc_score(truth, score))
    assert ranks["auroc"].low < ranks["auroc"].value < ranks["auroc"].high


def test_ranking_looks_at_the_named_rows_alone():
    truth, score, _ = noisy(2)
    rows = np.flatnonzero(np.arange(120) % 3 > 0)
    found = rank_figures(truth, score, rows, resample(np.arange(120), truth.astype(int), count=100))
    assert found["auroc"].value == pytest.approx(reference.roc_auc_score(truth[rows], score[rows]))
    assert found["auroc"].images == len(rows)


def test_too_few_negatives_for_a_rate_are_named():
    truth, score, _ = noisy(3)
    recalls = rank_figures(truth, score, np.arange(120), resample(np.arange(120), truth.astype(int)))["recall_at_fpr"]
    negatives = int((~truth).sum())
    assert list(recalls) == ["0.001", "0.01", "0.05"]
    assert f"{negatives} negatives show no rate of 0.001" in recalls["0.001"].note
    assert recalls["0.05"].note is None
    assert recalls["0.05"].images == int(truth.sum())


def test_classes_that_are_perfectly_apart_still_have_an_interval():
    truth = np.repeat([True, False], [20, 60])
    groups = np.concatenate([np.repeat(np.arange(5), 4), 5 + np.arange(60)])
    found = rank_figures(truth, truth.astype(float), np.arange(80), resample(groups, truth.astype(int), count=100))
    assert (found["auroc"].value, found["auroc"].low) == (1.0, clopper_pearson(5, 5)[0])
    recall = found["recall_at_fpr"]["0.05"]
    assert (recall.value, recall.low, recall.count) == (1.0, clopper_pearson(5, 5)[0], 20)
    assert found["average_precision"].low is None
    assert "equal in every resample" in found["average_precision"].note


@pytest.mark.parametrize("positive", [True, False])
def test_an_absent_class_gives_null_with_a_reason(positive):
    truth, score = np.full(20, positive), np.linspace(0, 1, 20)
    draws = resample(np.arange(20), truth.astype(int), count=100)
    ranks = rank_figures(truth, score, np.arange(20), draws)
    figures = class_figures(truth, np.zeros(20, dtype=bool), draws)
    for value in (ranks["auroc"], ranks["average_precision"], *ranks["recall_at_fpr"].values()):
        assert value.value is None
        assert "no image of" in value.note
    assert figures["precision"].note == "nothing was said to be of this class"
    absent = figures["false_positive_rate" if positive else "recall"]
    assert absent.value is None
    assert absent.note.startswith("no image of")
    assert (figures["f1"].value is None) is not positive
    assert curves(truth, score, np.arange(20)) is None


def test_recall_at_a_rate_of_its_own_per_resample():
    hits, alarms = np.array([[0.0, 1, 2, 4]] * 2), np.array([[0.0, 0, 1, 4]] * 2)
    np.testing.assert_allclose(recall_at(hits, alarms, np.array([0.0, 0.25])), [0.25, 0.5])


def test_gate_and_probe_are_compared_at_one_false_positive_rate():
    truth, score, rng = noisy(4)
    other = score + rng.normal(size=120)
    flagged = score > 1.0
    difference, recall = paired(Ranked(truth, score), Ranked(truth, other), flagged)(np.ones((1, 120)))[0]
    expected = reference.roc_auc_score(truth, score) - reference.roc_auc_score(truth, other)
    assert difference == pytest.approx(expected)
    alarms = int(flagged[~truth].sum())
    threshold = np.sort(other[~truth])[::-1][alarms]
    assert recall == pytest.approx((other[truth] > threshold).mean())


def test_level_agreement_equals_sklearn():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 80)
    said = np.clip(truth + rng.integers(-1, 2, 80), 0, 3)
    pairs = np.bincount(truth * 4 + said, minlength=16)[None].astype(float)
    assert kappa(pairs)[0] == pytest.approx(reference.cohen_kappa_score(truth, said, weights="quadratic"))
    assert mean_error(pairs)[0] == pytest.approx(np.abs(truth - said).mean())
    alone = np.zeros((1, 16))
    alone[0, 0] = 5
    assert np.isnan(kappa(alone)[0])


def test_calibration_equals_sklearn_and_brute_force():
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 3, 400)
    p = sigmoid(odds)
    truth = rng.random(400) < p**1.5
    found = calibration_figures(truth, odds, resample(np.arange(400), truth.astype(int), count=200))
    assert found["brier"].value == pytest.approx(reference.brier_score_loss(truth, p))
    assert found["log_loss"].value == pytest.approx(reference.log_loss(truth, p))
    order = np.argsort(p)
    bins = np.array_split(order, BINS)
    expected = sum(abs(truth[rows].mean() - p[rows].mean()) * len(rows) for rows in bins) / 400
    assert found["expected_calibration_error"].value == pytest.approx(expected, abs=0.01)
    assert [one["observed"].images for one in found["reliability"]] == pytest.approx([40] * BINS, abs=1)
    weighted = sum(
        one["observed"].images * abs(one["observed"].value - one["mean_probability"]) for one in found["reliability"]
    )
    assert found["expected_calibration_error"].value == pytest.approx(weighted / 400)


def test_equal_probabilities_stay_in_one_bin():
    places = equal_mass(np.array([0.1] * 30 + [0.2] * 5 + [0.9] * 5))
    assert len(set(places[:30].tolist())) == 1
    assert places.max() >= 1
    assert equal_mass(np.full(7, 0.5)).tolist() == [0] * 7


def test_log_odds_are_those_of_the_decision():
    labels = ("privacy", "politics", "illegal_risk", "safe")
    logits = np.random.default_rng(0).normal(0, 3, (50, 4))
    odds, risk = log_odds(logits / 1.7, labels, ("privacy", "illegal_risk"))
    thresholds = dict.fromkeys(labels[:-1], 0.5)
    rule = Rule(labels=labels, activation="softmax", temperature=1.7, thresholds=thresholds, any_threshold=0.5)
    policy = parse_policy(default_policy_text())
    for row in range(50):
        decision = decide(logits[row], np.zeros(4), rule, policy)
        assert sigmoid(risk)[row] == pytest.approx(decision.score)
        assert sigmoid(odds)[row] == pytest.approx([decision.categories[one] for one in ("privacy", "illegal_risk")])


def test_log_odds_order_images_whose_probability_is_one():
    logits = np.array([[800.0, 0.0], [900.0, 0.0]])
    _, risk = log_odds(logits, ("privacy", "safe"), ("privacy",))
    assert risk.tolist() == [800.0, 900.0]


def test_curves_are_thinned_and_keep_their_ends():
    truth, score, _ = noisy(7, size=3000)
    found = curves(truth, score, np.arange(3000))
    assert found["roc"][0] == [0.0, 0.0]
    assert found["roc"][-1] == [1.0, 1.0]
    assert len(found["roc"]) <= POINTS
    x, y = np.array(found["roc"]).T
    assert np.trapezoid(y, x) == pytest.approx(reference.roc_auc_score(truth, score), abs=0.005)


def test_a_chart_escapes_its_names_and_stays_inside_its_frame():
    x = Axis(title="<x>", low=0.001, log=True, ticks=(0.001, 1.0))
    line = Line(name="<script>", kind="gate", points=[(0.0, -1.0), (2.0, 2.0)])
    mark = Mark(x=0.5, y=0.5, low=None, high=None, kind="gate", title="<b>")
    drawn = chart("<t>", x, Axis(title="y"), [line], [mark])
    assert "<script>" not in drawn
    assert "<b>&lt;t&gt;</b>" in drawn
    assert 'points="52.00,274.00 366.00,12.00"' in drawn
    assert drawn == chart("<t>", x, Axis(title="y"), [line], [mark])
