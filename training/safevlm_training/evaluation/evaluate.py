"""From a checkpoint and labelled images to a report."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import sklearn  # type: ignore[import-untyped]
import torch

from safevlm_sdk.decision import Rule
from safevlm_sdk.errors import CheckpointError, DataError
from safevlm_sdk.policy import Policy, default_policy_text, load_policy, parse_policy
from safevlm_sdk.policy_fit import require_judged
from safevlm_sdk.version import __version__
from safevlm_training.checkpoint import (
    CheckpointCalibration,
    checkpoint_digest,
    load_calibration,
    load_naming,
)
from safevlm_training.config import load_config
from safevlm_training.data import BadRow, Labels
from safevlm_training.evaluation.intervals import CONFIDENCE
from safevlm_training.evaluation.judging import Grouped, Outputs, Unjudged, data_digest, group, judge
from safevlm_training.evaluation.measure import measure, per_source
from safevlm_training.evaluation.mistakes import bad_rows, failures, text_of, worst_mistakes
from safevlm_training.evaluation.probe import fit_probe, probe_figures
from safevlm_training.evaluation.resampling import RESAMPLES, SEED, resample
from safevlm_training.evaluation.sample import Sample, build_sample, rule_of
from safevlm_training.evaluation.sources import Source, parse_sources, read_rows
from safevlm_training.progress import Progress
from safevlm_training.risk_model import RiskModel
from safevlm_training.splits import Item

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """What was found.

    Attributes:
        report: The content of eval.json: plain values and `Value`s.
        sample: The judged images, for thumbnails and for further sections.
        model: The checkpoint, loaded.
        rule: How it decides.
        policy: Under which it did.
        failed: Images that the gate failed on, and rows that could not be used.
    """

    report: dict[str, Any]
    sample: Sample
    model: RiskModel
    rule: Rule
    policy: Policy
    failed: int

    @property
    def language_model(self) -> bool:
        """Whether a vision-language model's language model took part in the checkpoint."""
        return self.model.config.tower.kind == "vlm" and self.model.config.llm_width is not None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Seen:
    """One data set, read and judged."""

    sources: tuple[Source, ...]
    grouped: Grouped
    outputs: Outputs
    bad: tuple[BadRow, ...]

    @property
    def unjudged(self) -> tuple[Unjudged, ...]:
        return self.grouped.unjudged + self.outputs.unjudged


def evaluate_checkpoint(
    checkpoint: Path,
    data: Sequence[str],
    *,
    probe_data: Sequence[str] = (),
    policy: Path | None = None,
    resamples: int = RESAMPLES,
    progress: bool = True,
) -> Evaluation:
    """Judges labelled images with a checkpoint, on the CPU, at its shipped thresholds, and measures the result.

    Args:
        checkpoint: A calibrated checkpoint folder.
        data: `FOLDER`, `FILE.jsonl` or `CATEGORY=FOLDER`, see `parse_sources`.
        probe_data: Likewise, for the linear probe; none: no probe.
        policy: A TOML file, instead of the default policy for the checkpoint's taxonomy.
        resamples: Of the bootstrap.
        progress: Show bars on standard error when it is a terminal.

    Raises:
        CheckpointError: The checkpoint cannot be read, or was never calibrated.
        OptionError: A data argument names nothing.
        DataError: There is no usable image.
        PolicyError: The policy is not valid, or wants nothing that the checkpoint covers.
    """
    calibration = load_calibration(checkpoint)
    if calibration is None:
        raise CheckpointError(f"{checkpoint}: has no calibration.json, so it decides nothing yet; calibrate it first")
    places, probe_places = parse_sources(data), parse_sources(probe_data)
    config = load_config(checkpoint)
    chosen = parse_policy(default_policy_text(config.taxonomy)) if policy is None else load_policy(policy)
    require_judged(chosen, tuple(config.coverage), whose="the checkpoint")
    model, shown = RiskModel.from_pretrained(checkpoint), Progress(progress)
    seen = _see(model, places, chosen, shown)
    rule = rule_of(calibration, model.config.labels)
    sample, failed = build_sample(seen.outputs, rule, chosen)
    if not len(sample):
        raise DataError(f"none of the {len(seen.unjudged) + len(failed)} images could be judged; look at the files")
    unjudged = seen.unjudged + failed
    draws = resample(sample.groups, sample.types, count=resamples)
    found = measure(sample, draws)
    probe = None
    if probe_places:
        other = _see(model, probe_places, chosen, shown)
        probe = probe_figures(fit_probe(other.outputs, other.grouped, sample), sample, draws)
    report = {
        "schema_version": SCHEMA_VERSION,
        "checkpoint": _checkpoint(checkpoint, model, calibration),
        "policy": {"name": chosen.name, "digest": chosen.digest},
        "data": _data(seen, sample, unjudged),
        "intervals": {"confidence": CONFIDENCE, "resamples": resamples, "seed": SEED},
        **found,
        "sources": per_source(sample, unjudged),
        "probe": probe,
        "mistakes": worst_mistakes(sample, places),
        "versions": _versions(),
    }
    bad = seen.bad + seen.grouped.bad
    lost = len(unjudged) + len(bad)
    return Evaluation(report=report, sample=sample, model=model, rule=rule, policy=chosen, failed=lost)


def _see(model: RiskModel, places: tuple[Source, ...], policy: Policy, progress: Progress) -> _Seen:
    covered = tuple(model.config.coverage)
    judged = [risk for risk in covered if risk in policy.actions]
    labels = Labels(taxonomy=model.config.taxonomy, covered=covered)
    examples, bad = read_rows(places, labels, judged)
    grouped = group(examples, progress)
    return _Seen(sources=places, grouped=grouped, outputs=judge(model, grouped.items, progress), bad=bad)


def _checkpoint(path: Path, model: RiskModel, calibration: CheckpointCalibration) -> dict[str, Any]:
    naming, config = load_naming(path), model.config
    return {
        "name": naming.name or path.resolve().name,
        "license": naming.license,
        "digest": checkpoint_digest(path),
        "tower": {"name": config.tower.name, "tap": config.tower.tap, "digest": config.tower.digest},
        "coverage": dict(config.coverage),
        **msgspec.to_builtins(calibration),
    }


def _data(seen: _Seen, sample: Sample, unjudged: Sequence[Unjudged]) -> dict[str, Any]:
    items = seen.grouped.items
    return {
        "digest": data_digest(items),
        "sources": [
            _source(one, [item for item in items if item.example.origin == one.name]) for one in seen.sources
        ],
        "images": len(items) + len(seen.grouped.unjudged),
        "judged": len(sample),
        "groups": len(np.unique(sample.groups)),
        "counts": {label: int((sample.types == index).sum()) for index, label in enumerate(sample.labels)},
        "failed": failures(unjudged, seen.sources),
        "bad_rows": bad_rows(seen.bad + seen.grouped.bad),
    }


def _source(source: Source, items: Sequence[Item]) -> dict[str, Any]:
    return {
        "name": text_of(source.name),
        "category": source.category,
        "images": len(items),
        "digest": data_digest(items),
    }


def _versions() -> dict[str, str]:
    return {
        "safevlm_sdk": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "scikit_learn": sklearn.__version__,
    }
