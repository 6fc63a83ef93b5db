"""From a checkpoint's configuration to the parts of a manifest that say what the gate is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePath

from safevlm_sdk.decision import Rule
from safevlm_sdk.manifest import (
    CARD_FILE,
    GOLDEN_FILE,
    POLICY_FILE,
    Calibration,
    Graph,
    Identity,
    Thresholds,
    ViewPlan,
)
from safevlm_sdk.strict import digest
from safevlm_training.checkpoint import CheckpointCalibration, checkpoint_digest
from safevlm_training.config import SafetyConfig

HALF = 0.5


def identity_of(config: SafetyConfig, checkpoint: Path) -> Identity:
    """Where the weights come from; a tower in a local folder is named by the folder alone."""
    name = config.tower.name
    local = PurePath(name).is_absolute() or Path(name).is_dir()
    return Identity(
        tower=PurePath(name).name if local else name,
        tower_digest=config.tower.digest,
        checkpoint_digest=checkpoint_digest(checkpoint),
        tap=config.tower.tap,
        grid=config.grid,
        feature_width=config.feature_width,
    )


def view_plan_of(config: SafetyConfig) -> ViewPlan:
    """The overview alone, at the scale of training."""
    return ViewPlan(raster_max_side=config.raster_max_side, tile=None, overlap=0, max_views=1)


def uncalibrated(config: SafetyConfig) -> CheckpointCalibration:
    """What stands in the manifest of a checkpoint that was never calibrated: every threshold is one half."""
    note = "Never calibrated: the thresholds are placeholders."
    return CheckpointCalibration(
        calibration=Calibration(method="none", temperature=1.0, risky_groups=0, safe_groups=0, note=note),
        thresholds=Thresholds(categories=dict.fromkeys(config.coverage, HALF), any=HALF),
    )


def rule_of(config: SafetyConfig, decides: CheckpointCalibration) -> Rule:
    """The bundle's side of a decision."""
    return Rule(
        labels=config.labels,
        activation="softmax",
        temperature=decides.calibration.temperature,
        thresholds=decides.thresholds.categories,
        any_threshold=decides.thresholds.any,
    )


def listed_files(graphs: Iterable[Graph]) -> dict[str, str]:
    """Every file of the bundle with the digest of nothing, for a manifest whose files are not written yet."""
    paths = (GOLDEN_FILE, POLICY_FILE, CARD_FILE, *(file for graph in graphs for file in graph.files))
    return dict.fromkeys(paths, digest(b""))
