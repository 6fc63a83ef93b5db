"""The baseline: logistic regression on the mean of the same tower's features, at the same tap.

Features are standardised; the regression has C = 1 and weighs labels by the inverse of their frequency, as training
does. The mean over patches is the usual linear probe. It shows what the safety modules add to the tower.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.pipeline import Pipeline, make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

from safevlm_sdk.errors import DataError
from safevlm_sdk.taxonomy import SAFE
from safevlm_training.evaluation.intervals import Value, undefined
from safevlm_training.evaluation.judging import Grouped, Outputs, data_digest
from safevlm_training.evaluation.ranking import Ranked, curves, paired, rank_figures
from safevlm_training.evaluation.resampling import Evidence, Float, Resamples, bootstrapped
from safevlm_training.evaluation.sample import Sample, log_odds

STRENGTH = 1.0
STEPS = 2000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """A fitted baseline; `about` says what it was fitted on."""

    pipeline: Pipeline
    about: dict[str, Any]


def fit_probe(outputs: Outputs, data: Grouped, sample: Sample) -> Probe:
    """Fits the probe on features of other images than those that are evaluated.

    Args:
        outputs: Of the checkpoint on the probe's images; only the features are used.
        data: The probe's images.
        sample: What is evaluated, to count images that are in both.

    Raises:
        DataError: There are not two labels, one of them `safe`.
    """
    types = [item.example.category for item in outputs.items]
    if SAFE not in types or len(set(types)) < 2:
        raise DataError(
            f"the probe's data hold {', '.join(sorted(set(types))) or 'nothing'}; it needs safe images and others"
        )
    regression = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=STEPS)
    pipeline = make_pipeline(StandardScaler(), regression)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # `converged` says it
        pipeline.fit(outputs.pooled.astype(np.float64), types)
    seen = {item.image for item in outputs.items}
    groups = {item.group for item in outputs.items}
    about = {
        "features": "mean over the patches of the checkpoint's tower, standardised",
        "classifier": f"logistic regression, C = {STRENGTH:g}, classes balanced",
        "converged": bool(regression.n_iter_.max() < STEPS),
        "images": len(types),
        "counts": {label: types.count(label) for label in sorted(set(types))},
        "digest": data_digest(data.items),
        "failed": len(data.unjudged) + len(outputs.unjudged),
        "bad_rows": len(data.bad),
        "images_also_evaluated": sum(item.image in seen for item in sample.items),
        "groups_also_evaluated": len(groups & {item.group for item in sample.items}),
    }
    return Probe(pipeline=pipeline, about=about)


def probe_figures(probe: Probe, sample: Sample, resamples: Resamples) -> dict[str, Any]:
    """The ranking figures of the probe on the evaluated images, and how the gate compares."""
    odds, risk_odds = _odds(probe.pipeline, sample)
    everything = np.arange(len(sample))
    categories = {}
    for index, label in enumerate(sample.labels[:-1]):
        truth = sample.types == index
        categories[label] = (
            rank_figures(truth, odds[:, index], np.flatnonzero(truth | ~sample.risky), resamples)
            if label in probe.pipeline.classes_
            else None
        )
    return {
        **probe.about,
        "any_risk": {
            **rank_figures(sample.risky, risk_odds, everything, resamples),
            "curves": curves(sample.risky, risk_odds, everything),
        },
        "categories": categories,
        **_comparison(sample, risk_odds, resamples),
    }


def _odds(pipeline: Pipeline, sample: Sample) -> tuple[Float, Float]:
    """Log-odds per risk [N, R] and of any risk [N]; -inf for a risk that the probe never saw."""
    found: Float = pipeline.decision_function(sample.pooled.astype(np.float64))
    if found.ndim == 1:  # of two classes, only the second one's
        found = np.stack([np.zeros_like(found), found], axis=1)
    known: list[str] = list(pipeline.classes_)
    logits = np.full((len(sample), len(sample.labels)), -np.inf)
    for column, label in enumerate(sample.labels):
        if label in known:
            logits[:, column] = found[:, known.index(label)]
    return log_odds(logits, sample.labels, sample.labels[:-1])


def _comparison(sample: Sample, risk_odds: Float, resamples: Resamples) -> dict[str, Value]:
    """On the same resamples, so that what both find hard cancels out."""
    names = ("gate_less_probe_auroc", "recall_at_gate_false_positive_rate")
    truth = sample.risky
    if truth.all() or not truth.any():
        return dict.fromkeys(names, undefined("both safe and risky images are needed"))
    both = paired(Ranked(truth, sample.risk_odds), Ranked(truth, risk_odds), sample.flagged)
    values = both(np.ones((1, len(sample))))[0]
    draws = resamples.draw(both, np.arange(len(sample)))
    evidence = Evidence.of(truth, sample.groups)
    return {
        name: bootstrapped(value, draw, evidence) for name, value, draw in zip(names, values, draws.T, strict=True)
    }
