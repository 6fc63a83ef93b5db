from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from safevlm_training.metrics import (
    Judged,
    auroc,
    average_precision,
    confusion,
    evaluate,
    flag_rates,
    log_loss,
    log_softmax,
    recall_at_fpr,
)

LABELS = ("privacy", "illegal_risk", "safe")


def judged(seed: int = 0, size: int = 90) -> Judged:
    rng = np.random.default_rng(seed)
    types = np.arange(size) % 3
    return Judged(
        labels=LABELS,
        type_logits=rng.normal(size=(size, 3)) + 2 * np.eye(3)[types],
        level_logprobs=log_softmax(rng.normal(size=(size, 4))),
        types=types,
        levels=np.where(types == 2, 0, 1 + np.arange(size) % 3),
        groups=[f"g{number // 2}" for number in range(size)],
        sources=["photos" if number % 5 else "drawn" for number in range(size)],
    )


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("ties", [False, True])
def test_ranking_metrics_equal_sklearn(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(60) < 0.3
    score = rng.normal(size=60) + truth
    if ties:
        score = np.round(score)
    false_alarms, hits, _ = reference.roc_curve(truth, score, drop_intermediate=False)
    assert auroc(truth, score) == pytest.approx(reference.roc_auc_score(truth, score), abs=1e-12)
    assert average_precision(truth, score) == pytest.approx(
        reference.average_precision_score(truth, score), abs=1e-12
    )
    for fpr in (0.0, 0.01, 0.05, 0.5):
        assert recall_at_fpr(truth, score, fpr) == pytest.approx(hits[false_alarms <= fpr].max())


def test_a_missing_class_gives_no_number() -> None:
    score = np.array([0.1, 0.2])
    assert auroc(np.array([True, True]), score) is None
    assert auroc(np.array([], dtype=bool), np.array([])) is None
    assert average_precision(np.array([False, False]), score) is None
    assert recall_at_fpr(np.array([False, False]), score, 0.1) is None


def test_counts_and_losses_equal_sklearn() -> None:
    images = judged()
    found = evaluate(images)
    logprobs = log_softmax(images.type_logits)
    predicted = logprobs.argmax(axis=1)
    assert log_loss(logprobs, images.types) == pytest.approx(reference.log_loss(images.types, np.exp(logprobs)))
    assert confusion(images.types, predicted, 3) == reference.confusion_matrix(images.types, predicted).tolist()
    assert found["type_accuracy"] == pytest.approx(reference.accuracy_score(images.types, predicted))
    levels = images.level_logprobs.argmax(axis=1)
    assert found["level_accuracy"] == pytest.approx(reference.accuracy_score(images.levels, levels))
    risk = 1 - np.exp(logprobs[:, -1])
    assert found["auroc"] == pytest.approx(reference.roc_auc_score(images.risky, risk))
    assert found["loss"] == pytest.approx(found["type_log_loss"] + found["level_log_loss"])
    among = images.types != 1
    margin = (images.type_logits[:, 0] - images.type_logits[:, 2])[among]
    expected = reference.roc_auc_score(images.types[among] == 0, margin)
    assert found["categories"]["privacy"]["auroc"] == pytest.approx(expected)
    assert (found["images"], found["risky_images"], found["safe_images"]) == (90, 60, 30)
    assert found["safe_groups"] == 30


def test_the_score_does_not_saturate() -> None:
    """P(safe) underflows at these logits, and the order must survive."""
    images = judged(size=3)
    images.type_logits[:] = [[900.0, 0.0, 0.0], [800.0, 0.0, 0.0], [700.0, 0.0, 0.0]]
    assert evaluate(images)["auroc"] == 1.0


def test_false_positives_are_counted_per_source() -> None:
    images = judged()
    flagged = np.array([source == "drawn" for source in images.sources])
    found = flag_rates(images, flagged)
    drawn = found["false_positives_per_source"]["drawn"]
    assert (drawn["safe_images"], drawn["flagged"], drawn["rate"]) == (6, 6, 1.0)
    assert found["false_positives_per_source"]["photos"]["rate"] == 0.0
    assert found["false_positives"] == {"safe_images": 30, "flagged": 6, "rate": 0.2}
    assert found["recall"]["images"] == 60
    assert found["recall_per_category"]["privacy"] == {"images": 30, "recall": 0.2}
