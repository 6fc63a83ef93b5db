"""The starter that ships is what its checkpoint exports to."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from safevlm_export.export import ExportOptions, export_checkpoint
from safevlm_runtime import Runtime
from safevlm_runtime.bundle.reader import read_bundle, starter_path
from safevlm_training.checkpoint import checkpoint_digest, load_calibration
from safevlm_training.documents import examples

CHECKPOINT = Path(__file__).resolve().parents[2] / "starter" / "checkpoint"


def test_the_bundle_is_of_the_checkpoint() -> None:
    manifest = read_bundle(starter_path()).manifest
    calibrated = load_calibration(CHECKPOINT)
    assert calibrated is not None
    assert manifest.identity.checkpoint_digest == checkpoint_digest(CHECKPOINT)
    assert (manifest.thresholds, manifest.calibration) == (calibrated.thresholds, calibrated.calibration)
    assert manifest.coverage.keys() == {"privacy"}
    assert manifest.proof.kind == "decisions"
    assert {proof.flips for proof in manifest.proof.graphs.values()} == {0}


def test_exporting_it_again_gives_a_gate_of_the_same_mind(tmp_path: Path) -> None:
    report = export_checkpoint(CHECKPOINT, tmp_path / "bundle", ExportOptions())
    assert report.manifest.name == "safevlm-starter-documents"
    pictures = [np.asarray(sample.image) for _, sample in examples()]
    with Runtime.load(tmp_path / "bundle") as again, Runtime.starter() as shipped:
        for mine, theirs in zip(again.check_many(pictures), shipped.check_many(pictures), strict=True):
            assert (mine.action, mine.category, mine.level) == (theirs.action, theirs.category, theirs.level)
            assert abs(mine.score - theirs.score) < 1e-4


def test_private_examples_are_flagged_and_the_others_are_not() -> None:
    with Runtime.starter() as runtime:
        for name, sample in examples():
            verdict = runtime.check(sample.image)
            assert verdict.category == sample.category, name
