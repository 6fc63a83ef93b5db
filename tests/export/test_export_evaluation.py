"""The evaluation of a checkpoint goes with its bundle, as long as it is of that checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from safevlm_export.export import ExportOptions, export_checkpoint
from safevlm_export.report import ExportReport
from safevlm_runtime.bundle.reader import read_bundle
from safevlm_runtime.calibrate.bundle import calibrate_bundle
from safevlm_sdk.calibration.choose import Demand
from safevlm_sdk.calibration.request import Request
from safevlm_sdk.card_header import with_model_index
from safevlm_sdk.errors import CheckpointError
from safevlm_sdk.evaluation_card import HEADING, evaluation_section
from safevlm_sdk.evaluation_record import (
    EVALUATION_FILE,
    EvaluationRecord,
    Figure,
    Overall,
    SourceRow,
    evaluation_bytes,
)
from safevlm_sdk.policy import default_policy_text, parse_policy
from safevlm_training.calibrate_checkpoint import calibrate_checkpoint
from safevlm_training.checkpoint import checkpoint_digest

Cases = Callable[[str], Any]


def draw_images(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(20):
        Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(folder / f"{number}.png")


def evaluated_copy(checkpoint: Path, out: Path) -> Path:
    shutil.copytree(checkpoint, out)
    (out / EVALUATION_FILE).write_bytes(evaluation_bytes(record_of(out)))
    return out


@pytest.fixture
def measured(case_of: Cases, tmp_path: Path) -> Path:
    """A checkpoint with an evaluation of its own."""
    return evaluated_copy(case_of("vit-edge").checkpoint, tmp_path / "measured")


@pytest.fixture(scope="module")
def exported(case_of: Cases, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    """The bundle of such a checkpoint, which must not be changed, and its report."""
    folder = tmp_path_factory.mktemp("measured")
    checkpoint = evaluated_copy(case_of("vit-edge").checkpoint, folder / "checkpoint")
    options = ExportOptions(name="vit-edge", license="Apache-2.0")
    return folder / "bundle", export_checkpoint(checkpoint, folder / "bundle", options)


def record_of(checkpoint: Path) -> EvaluationRecord:
    row = SourceRow(
        source="drawn/generated/card", category="privacy", images=4, groups=4, flagged=3, rate=0.75, low=0.2,
        high=0.99, method="exact",
    )  # fmt: skip
    figure = Figure(value=0.75, low=0.2, high=0.99)
    return EvaluationRecord(
        schema_version=1,
        checkpoint=checkpoint_digest(checkpoint),
        policy="sha256:" + "0" * 64,
        data="sha256:" + "0" * 64,
        images=4,
        groups=4,
        sources=(row,),
        overall=Overall(**dict.fromkeys(Overall.__struct_fields__, figure)),
        probe_auroc=None,
        robustness=None,
        notes=(),
    )


def test_the_card_of_a_bundle_tells_the_checkpoint_s_evaluation(
    case_of: Cases, exported: tuple[Path, ExportReport]
) -> None:
    bundle, report = exported
    card = (bundle / "README.md").read_text(encoding="utf-8")
    plain = case_of("vit-edge")
    section = evaluation_section(record_of(plain.checkpoint))
    without = with_model_index(card, report.manifest.name, None).replace(f"{section}\n\n", "")
    assert without == (plain.bundle / "README.md").read_text(encoding="utf-8")
    assert "model-index:" in card
    assert card.index("## Calibration and thresholds") < card.index(section) < card.index("## Proof")
    assert report.manifest.identity == plain.report.manifest.identity
    assert report.warnings == ()
    assert read_bundle(bundle).card == card


def test_an_evaluation_of_another_checkpoint_is_left_out_with_a_warning(measured: Path, tmp_path: Path) -> None:
    calibration = (measured / "calibration.json").read_bytes()
    (measured / "calibration.json").write_bytes(calibration.replace(b'"any": 0.6', b'"any": 0.61'))
    report = export_checkpoint(measured, tmp_path / "out", ExportOptions())
    assert HEADING not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    (warning,) = report.warnings
    assert f"this one is {checkpoint_digest(measured)}: the card tells no evaluation" in warning
    assert report.render().endswith(f"warning: {warning}")


def test_thresholds_that_were_calibrated_under_another_policy_say_so(measured: Path, tmp_path: Path) -> None:
    images, calibrated = tmp_path / "images", tmp_path / "calibrated"
    draw_images(images)
    calibrate_checkpoint(measured, Request(safe=images, risky=None, demand=Demand(flag_at_most=0.5), out=calibrated))
    policy = tmp_path / "policy.toml"
    policy.write_bytes(default_policy_text() + b"\n")
    same = export_checkpoint(calibrated, tmp_path / "same", ExportOptions(policy=policy))
    assert same.warnings == ()
    assert "another policy" not in read_bundle(tmp_path / "same").card
    policy.write_bytes(default_policy_text().replace(b'name = "', b'name = "*kiosk* ', 1))
    report = export_checkpoint(calibrated, tmp_path / "other", ExportOptions(policy=policy))
    (warning,) = report.warnings
    assert f"another policy ({parse_policy(default_policy_text()).digest}) than the bundle's own, '*kiosk*" in warning
    assert f"({read_bundle(tmp_path / 'other').policy.digest})" in warning
    card = read_bundle(tmp_path / "other").card
    assert "**The thresholds were calibrated under another policy (sha256:" in card
    assert "*kiosk*" not in card


def test_a_damaged_evaluation_stops_before_work(measured: Path, tmp_path: Path) -> None:
    (measured / EVALUATION_FILE).write_bytes(b'{"schema_version":1}')
    with pytest.raises(CheckpointError, match=r"evaluation\.json: .*missing required field"):
        export_checkpoint(measured, tmp_path / "out", ExportOptions())
    assert not (tmp_path / "out").exists()


def test_new_thresholds_of_a_bundle_drop_the_evaluation(exported: tuple[Path, ExportReport], tmp_path: Path) -> None:
    (bundle, _), images, out = exported, tmp_path / "images", tmp_path / "out"
    draw_images(images)
    demand = Demand(flag_at_most=0.5)
    calibrate_bundle(bundle, Request(safe=images, risky=None, demand=demand, out=out))
    assert HEADING in read_bundle(bundle).card
    assert HEADING not in read_bundle(out).card
