"""A whole evaluation of a small real checkpoint: every image is accounted for."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from safevlm_sdk.decision import decide
from safevlm_sdk.errors import CheckpointError, DataError, OptionError
from safevlm_sdk.policy import default_policy_text, parse_policy
from safevlm_sdk.preprocess import preprocess
from safevlm_sdk.raster import decode
from safevlm_training.checkpoint import CALIBRATION_FILE, load_calibration
from safevlm_training.evaluation.evaluate import Evaluation, evaluate_checkpoint
from safevlm_training.evaluation.report import require_writable, write_report
from safevlm_training.evaluation.sample import rule_of, sigmoid
from safevlm_training.evaluation.sources import parse_sources
from safevlm_training.risk_model import RiskModel

RESAMPLES = 100


def test_every_image_is_decided_as_the_checkpoint_would(eval_world: Path, evaluated: Evaluation) -> None:
    model = RiskModel.from_pretrained(eval_world / "checkpoint")
    calibration = load_calibration(eval_world / "checkpoint")
    assert calibration is not None
    rule, policy = rule_of(calibration, model.config.labels), parse_policy(default_policy_text())
    counts = np.zeros((3, 3), dtype=int)
    actions = np.zeros((3, 3), dtype=int)
    labels = ("privacy", "illegal_risk", "safe")
    for item in evaluated.sample.items:
        frame = decode(item.example.path, max_side=model.config.raster_max_side).frames[0]
        with torch.inference_mode():
            said, _ = model(torch.from_numpy(preprocess(frame.pixels, model.config.preprocessing))[None])
        decision = decide(said.type_logits[0].numpy(), said.level_logprobs[0].numpy(), rule, policy)
        truth = labels.index(item.example.category)
        counts[truth, labels.index(str(decision.category))] += 1
        actions[truth, decision.action.severity] += 1
    assert evaluated.report["confusion"] == {"labels": list(labels), "counts": counts.tolist()}
    assert evaluated.report["actions"]["counts"] == actions.tolist()
    flagged = int(counts[:, :2].sum())
    assert 10 < flagged < 51
    any_risk = evaluated.report["any_risk"]
    assert (any_risk["precision"].count, any_risk["precision"].images) == (int(counts[:2, :2].sum()), flagged)
    assert (any_risk["recall"].images, any_risk["false_positive_rate"].images) == (30, 31)
    privacy = evaluated.report["categories"]["privacy"]
    assert (privacy["recall"].count, privacy["recall"].images) == (counts[0, 0], 18)
    assert privacy["auroc"].images == 18 + 31
    assert evaluated.report["levels"]["confusion"][0][0] == counts[2, 2]
    scores = [decision.score for decision in evaluated.sample.decisions]
    assert sigmoid(evaluated.sample.risk_odds) == pytest.approx(scores)


def test_sources_and_groups(evaluated: Evaluation) -> None:
    assert list(evaluated.report["sources"]) == ["images", "photos", "rows/drawn"]
    photos, rows = evaluated.report["sources"]["photos"], evaluated.report["sources"]["rows/drawn"]
    assert (photos["safe_flagged"].images, photos["risky_flagged"].value) == (13, None)
    assert photos["safe_flagged"].method == "exact"
    assert (rows["safe_flagged"].images, rows["safe_flagged"].groups) == (6, 3)
    assert rows["safe_flagged"].method == "exact_effective"
    assert evaluated.report["data"]["groups"] == 36 + 13 + 3


def test_the_probe_is_a_baseline_on_the_same_features(evaluated: Evaluation) -> None:
    probe = evaluated.report["probe"]
    assert (probe["images"], probe["images_also_evaluated"], probe["converged"]) == (36, 36, True)
    assert probe["any_risk"]["auroc"].value > 0.9
    difference = evaluated.report["any_risk"]["auroc"].value - probe["any_risk"]["auroc"].value
    assert probe["gate_less_probe_auroc"].value == pytest.approx(difference)
    assert probe["gate_less_probe_auroc"].high < 0
    assert probe["recall_at_gate_false_positive_rate"].value > 0.8


def test_a_risk_that_the_probe_never_saw_has_no_figures(
    eval_world: Path, eval_data: list[str], tmp_path: Path
) -> None:
    found = evaluate_checkpoint(
        eval_world / "checkpoint",
        eval_data,
        probe_data=[f"{eval_world}/rows.jsonl"],
        resamples=RESAMPLES,
        progress=False,
    )
    assert found.report["probe"]["counts"] == {"privacy": 6, "safe": 6}
    assert found.report["probe"]["categories"]["illegal_risk"] is None
    assert found.report["probe"]["categories"]["privacy"]["auroc"].value > 0.9
    assert "linear probe, privacy" in write_report(tmp_path, found).read_text(encoding="utf-8")


def test_nothing_is_dropped_in_silence(eval_world: Path, eval_data: list[str], tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes((eval_world / "rows/0.png").read_bytes()[:900])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no image")
    found = evaluate_checkpoint(
        eval_world / "checkpoint", [*eval_data, f"safe={tmp_path}"], resamples=RESAMPLES, progress=False
    )
    counts = found.report["data"]
    assert [(one["file"], one["error"]) for one in counts["failed"]] == [
        ("empty.png", "image_empty"),
        ("cut.png", "image_corrupt"),
    ]
    assert [row["where"] for row in counts["bad_rows"]] == [str(tmp_path / "notes.txt")]
    assert (counts["images"], counts["judged"], found.failed) == (63, 61, 3)
    assert found.report["sources"][tmp_path.name]["failed"] == 2
    assert found.report["sources"][tmp_path.name]["safe_flagged"].note == "no safe image"


def test_one_image_under_two_labels_is_a_bad_row(eval_world: Path, eval_data: list[str], tmp_path: Path) -> None:
    (tmp_path / "copy.png").write_bytes((eval_world / "images/privacy/high/0.png").read_bytes())
    found = evaluate_checkpoint(
        eval_world / "checkpoint", [*eval_data, f"safe={tmp_path}"], resamples=RESAMPLES, progress=False
    )
    assert found.report["data"]["judged"] == 60
    assert all("keep one label" in row["reason"] for row in found.report["data"]["bad_rows"])
    assert found.failed == 2


def test_what_the_policy_switched_off_is_not_judged(eval_world: Path, eval_data: list[str], tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'schema = 1\nname = "one"\nuncovered = "allow"\n[actions.privacy]\nlow = "caution"\nmedium = "block"\n'
        'high = "block"\n'
    )
    found = evaluate_checkpoint(
        eval_world / "checkpoint", eval_data, policy=policy, resamples=RESAMPLES, progress=False
    )
    assert found.report["confusion"]["labels"] == ["privacy", "safe"]
    assert found.report["policy"]["name"] == "one"
    assert len(found.report["data"]["bad_rows"]) == 12
    assert "switched off by the policy" in found.report["data"]["bad_rows"][0]["reason"]


def test_safe_images_alone_leave_gaps_with_reasons(eval_world: Path, tmp_path: Path) -> None:
    found = evaluate_checkpoint(
        eval_world / "checkpoint", [f"safe={eval_world}/photos"], resamples=RESAMPLES, progress=False
    )
    any_risk = msgspec.to_builtins(found.report["any_risk"])
    assert any_risk["false_positive_rate"]["value"] is not None
    for name in ("recall", "auroc", "average_precision"):
        assert any_risk[name]["value"] is None
        assert any_risk[name]["note"].startswith("no image of")
    page = write_report(tmp_path, found).read_text(encoding="utf-8")
    assert "ROC" not in page.replace("AUROC", "")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nowhere", "there is no folder"),
        ("safe=nowhere", "there is no folder"),
        ("safe={}/rows.jsonl", "leave safe="),
    ],
)
def test_data_that_is_not_there_is_refused(eval_world: Path, value: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_sources([value.format(eval_world)])


def test_sources_of_one_name_are_told_apart(eval_world: Path, tmp_path: Path) -> None:
    for name in ("images", "a=b"):
        (tmp_path / name).mkdir()
    parsed = parse_sources([f"{eval_world}/images", f"safe={tmp_path}/images", f"{tmp_path}/a=b"])
    assert [(one.name, one.category) for one in parsed] == [("images", None), ("images-2", "safe"), ("a=b", None)]


def test_refusals_come_before_the_work(eval_world: Path, eval_data: list[str], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="among the images"):
        require_writable(eval_world / "photos" / "out", eval_data)
    with pytest.raises(OptionError, match="is a file"):
        require_writable(eval_world / "rows.jsonl", eval_data)
    with pytest.raises(DataError, match="'violence' is not in taxonomy"):
        evaluate_checkpoint(eval_world / "checkpoint", [f"violence={eval_world}/photos"], progress=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no labelled image was found"):
        evaluate_checkpoint(eval_world / "checkpoint", [f"{tmp_path}/empty"], progress=False)
    with pytest.raises(DataError, match="it needs safe images and others"):
        evaluate_checkpoint(
            eval_world / "checkpoint",
            eval_data,
            probe_data=[f"safe={eval_world}/photos"],
            resamples=100,
            progress=False,
        )


def test_a_checkpoint_without_thresholds_is_refused(eval_world: Path, eval_data: list[str], tmp_path: Path) -> None:
    for file in (eval_world / "checkpoint").iterdir():
        if file.name != CALIBRATION_FILE:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match=r"has no calibration\.json"):
        evaluate_checkpoint(tmp_path, eval_data, progress=False)
