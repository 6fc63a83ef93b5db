"""Every figure of a checkpoint on judged images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from safevlm_training.evaluation.calibration import calibration_figures
from safevlm_training.evaluation.figures import class_figures, ranked_figures, size_of
from safevlm_training.evaluation.intervals import rate
from safevlm_training.evaluation.judging import Unjudged
from safevlm_training.evaluation.levels import level_figures
from safevlm_training.evaluation.ranking import curves
from safevlm_training.evaluation.resampling import Resamples
from safevlm_training.evaluation.sample import ACTIONS, Sample
from safevlm_training.metrics import confusion


def measure(sample: Sample, resamples: Resamples) -> dict[str, Any]:
    """Figures per risk, over all risks, of levels and of calibration, and the confusion matrices.

    A risk's ranking figures compare its images with the safe ones; precision, recall and F1 are against all images.
    """
    counts = confusion(sample.types, sample.decided, len(sample.labels))
    return {
        "any_risk": _any_risk(sample, resamples),
        "categories": {label: _category(index, sample, resamples) for index, label in enumerate(sample.labels[:-1])},
        "confusion": {"labels": list(sample.labels), "counts": counts},
        "actions": _actions(sample),
        "levels": level_figures(sample, resamples),
    }


def per_source(sample: Sample, unjudged: Sequence[Unjudged]) -> dict[str, Any]:
    """What each source's safe and risky images came to."""
    failed = [one.example.source for one in unjudged]
    found = {}
    for name in sorted({*sample.sources.tolist(), *failed}):
        here = sample.sources == name
        safe, risky = here & ~sample.risky, here & sample.risky
        found[name] = {
            "images": int(here.sum()),
            "failed": failed.count(name),
            "safe_flagged": rate(sample.flagged, safe, sample.groups, absent="no safe image"),
            "risky_flagged": rate(sample.flagged, risky, sample.groups, absent="no risky image"),
        }
    return found


def _any_risk(sample: Sample, resamples: Resamples) -> dict[str, Any]:
    everything = np.ones(len(sample), dtype=bool)
    return {
        **size_of(sample.risky, sample.groups),
        "safe": size_of(~sample.risky, sample.groups),
        **class_figures(sample.risky, sample.flagged, resamples),
        **ranked_figures(sample.risky, sample.risk_odds, everything, resamples),
        "curves": curves(sample.risky, sample.risk_odds, np.arange(len(sample))),
        "calibration": calibration_figures(sample.risky, sample.risk_odds, resamples),
    }


def _category(index: int, sample: Sample, resamples: Resamples) -> dict[str, Any]:
    truth, odds = sample.types == index, sample.odds[:, index]
    among = truth | ~sample.risky
    return {
        **size_of(truth, sample.groups),
        **class_figures(truth, sample.decided == index, resamples),
        **ranked_figures(truth, odds, among, resamples),
        "curves": curves(truth, odds, np.flatnonzero(among)),
        "calibration": calibration_figures(truth, odds, resamples),
    }


def _actions(sample: Sample) -> dict[str, Any]:
    counts = [
        [int(((sample.types == index) & (sample.actions == action)).sum()) for action in range(len(ACTIONS))]
        for index in range(len(sample.labels))
    ]
    return {"labels": list(sample.labels), "actions": list(ACTIONS), "counts": counts}
