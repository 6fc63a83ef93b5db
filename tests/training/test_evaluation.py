"""A whole evaluation of a small real checkpoint: every image is accounted for, and the page is safe to open."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from safevlm_sdk.command.app import app
from safevlm_sdk.decision import decide
from safevlm_sdk.errors import CheckpointError, DataError, OptionError
from safevlm_sdk.evaluation_card import HEADING, evaluation_section
from safevlm_sdk.evaluation_record import evaluation_bytes, parse_evaluation
from safevlm_sdk.manifest import Calibration, Thresholds
from safevlm_sdk.policy import default_policy_text, parse_policy
from safevlm_sdk.preprocess import preprocess
from safevlm_sdk.raster import decode
from safevlm_sdk.taxonomy import load_taxonomy
from safevlm_training.checkpoint import (
    CALIBRATION_FILE,
    CHECKPOINT_FILES,
    CheckpointCalibration,
    checkpoint_digest,
    load_calibration,
    load_evaluation,
    load_modules,
    save_checkpoint,
)
from safevlm_training.config import edge_config
from safevlm_training.evaluation import summary
from safevlm_training.evaluation.evaluate import Evaluation, evaluate_checkpoint
from safevlm_training.evaluation.hardening import harden
from safevlm_training.evaluation.page import Section
from safevlm_training.evaluation.publishing import publish_evaluation
from safevlm_training.evaluation.report import report_json, require_writable, write_report
from safevlm_training.evaluation.sample import rule_of, sigmoid
from safevlm_training.evaluation.sources import parse_sources
from safevlm_training.evaluation.summary import summarise
from safevlm_training.modules import SafetyModules
from safevlm_training.risk_model import RiskModel
from safevlm_training.towers.load import describe_tower
from safevlm_training.training_card import training_card

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m.png"
RESAMPLES = 100


def draw(path: Path, rng: np.random.Generator, kind: str) -> None:
    image = Image.fromarray(rng.integers(100, 160, (64, 64, 3), dtype=np.uint8))
    left, top = (int(value) for value in rng.integers(2, 20, 2))
    pen = ImageDraw.Draw(image)
    if kind == "privacy":
        pen.rectangle((left, top, left + 30, top + 30), fill=(250, 10, 10))
    elif kind == "illegal_risk":
        pen.rectangle((left, top, left + 30, top + 30), fill=(10, 250, 10))
    else:
        pen.ellipse((left, top, left + 30, top + 30), fill=(10, 10, 250))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def save_model(folder: Path, thresholds: float) -> None:
    tower, described, preprocessing = describe_tower("efficientnet-lite0", "hidden:4", image_size=64)
    config = edge_config(
        tower=described, grid=tower.grid, feature_width=tower.feature_width, taxonomy=load_taxonomy(),
        coverage={"privacy": "Red.", "illegal_risk": "Green."}, preprocessing=preprocessing, width=16,
    )  # fmt: skip
    torch.manual_seed(0)
    limits = Thresholds(categories=dict.fromkeys(config.coverage, thresholds), any=thresholds)
    note = Calibration(method="temperature", temperature=0.3, risky_groups=5, safe_groups=5, note="For a test.")
    model = RiskModel(tower, SafetyModules(config))
    model.save_pretrained(folder, calibration=CheckpointCalibration(calibration=note, thresholds=limits))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose thresholds flag about half of the images, and 60 images in three sources."""
    root = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    for number in range(12):
        draw(root / f"images/privacy/high/{number}.png", rng, "privacy")
        draw(root / f"images/illegal_risk/{number}.png", rng, "illegal_risk")
        draw(root / f"images/safe/{number}.png", rng, "safe")
        draw(root / f"photos/deep/{number}.png", rng, "safe")
    draw(root / "photos" / HOSTILE, rng, "privacy")
    lines = []
    for number in range(12):
        draw(root / f"rows/{number}.png", rng, ("privacy", "safe")[number % 2])
        row = {"image": f"rows/{number}.png", "category": ("privacy", "safe")[number % 2], "split": "train"}
        lines.append(json.dumps(row | {"group": f"g{number // 4}", "source": "drawn"}))
    (root / "rows.jsonl").write_text("\n".join(lines))
    save_model(root / "checkpoint", 0.5)
    found = evaluate_checkpoint(root / "checkpoint", data(root), resamples=RESAMPLES, progress=False)
    save_model(root / "checkpoint", round(float(np.median([one.score or 0 for one in found.sample.decisions])), 4))
    return root


def data(root: Path) -> list[str]:
    return [f"{root}/images", f"safe={root}/photos", f"{root}/rows.jsonl"]


@pytest.fixture(scope="module")
def found(world: Path) -> Evaluation:
    return evaluate_checkpoint(
        world / "checkpoint", data(world), probe_data=[f"{world}/images"], resamples=RESAMPLES, progress=False
    )


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_every_image_is_decided_as_the_checkpoint_would(world: Path, found: Evaluation) -> None:
    model = RiskModel.from_pretrained(world / "checkpoint")
    calibration = load_calibration(world / "checkpoint")
    assert calibration is not None
    rule, policy = rule_of(calibration, model.config.labels), parse_policy(default_policy_text())
    counts = np.zeros((3, 3), dtype=int)
    actions = np.zeros((3, 3), dtype=int)
    labels = ("privacy", "illegal_risk", "safe")
    for item in found.sample.items:
        frame = decode(item.example.path, max_side=model.config.raster_max_side).frames[0]
        with torch.inference_mode():
            said, _ = model(torch.from_numpy(preprocess(frame.pixels, model.config.preprocessing))[None])
        decision = decide(said.type_logits[0].numpy(), said.level_logprobs[0].numpy(), rule, policy)
        truth = labels.index(item.example.category)
        counts[truth, labels.index(str(decision.category))] += 1
        actions[truth, decision.action.severity] += 1
    assert found.report["confusion"] == {"labels": list(labels), "counts": counts.tolist()}
    assert found.report["actions"]["counts"] == actions.tolist()
    flagged = int(counts[:, :2].sum())
    assert 10 < flagged < 51
    any_risk = found.report["any_risk"]
    assert (any_risk["precision"].count, any_risk["precision"].images) == (int(counts[:2, :2].sum()), flagged)
    assert (any_risk["recall"].images, any_risk["false_positive_rate"].images) == (30, 31)
    privacy = found.report["categories"]["privacy"]
    assert (privacy["recall"].count, privacy["recall"].images) == (counts[0, 0], 18)
    assert privacy["auroc"].images == 18 + 31
    assert found.report["levels"]["confusion"][0][0] == counts[2, 2]
    scores = [decision.score for decision in found.sample.decisions]
    assert sigmoid(found.sample.risk_odds) == pytest.approx(scores)


def test_robustness_is_a_part_of_the_same_report(world: Path, found: Evaluation, tmp_path: Path) -> None:
    folder = world / "checkpoint"
    hardened = harden(folder, found, corrupted=2, attacked=1, transfer_to=[folder], progress=False)
    figures = json.loads(report_json(found, (hardened.section,)))["robustness"]
    assert {row["corruption"] for row in figures["corruptions"]} >= {"JPEG", "screenshot"}
    assert figures["transfers"][0]["digest"] == figures["digest"] == found.report["checkpoint"]["digest"]
    page = write_report(tmp_path, found, extra=(hardened.section,)).read_text()
    assert hardened.section.html in page
    assert any("no robustness" in line.lower() for line in hardened.lines)


def test_sources_and_groups(found: Evaluation) -> None:
    assert list(found.report["sources"]) == ["images", "photos", "rows/drawn"]
    photos, rows = found.report["sources"]["photos"], found.report["sources"]["rows/drawn"]
    assert (photos["safe_flagged"].images, photos["risky_flagged"].value) == (13, None)
    assert photos["safe_flagged"].method == "exact"
    assert (rows["safe_flagged"].images, rows["safe_flagged"].groups) == (6, 3)
    assert rows["safe_flagged"].method == "exact_effective"
    assert found.report["data"]["groups"] == 36 + 13 + 3


def test_the_probe_is_a_baseline_on_the_same_features(found: Evaluation) -> None:
    probe = found.report["probe"]
    assert (probe["images"], probe["images_also_evaluated"], probe["converged"]) == (36, 36, True)
    assert probe["any_risk"]["auroc"].value > 0.9
    difference = found.report["any_risk"]["auroc"].value - probe["any_risk"]["auroc"].value
    assert probe["gate_less_probe_auroc"].value == pytest.approx(difference)
    assert probe["gate_less_probe_auroc"].high < 0
    assert probe["recall_at_gate_false_positive_rate"].value > 0.8


def test_a_risk_that_the_probe_never_saw_has_no_figures(world: Path, tmp_path: Path) -> None:
    found = evaluate_checkpoint(
        world / "checkpoint", data(world), probe_data=[f"{world}/rows.jsonl"], resamples=RESAMPLES, progress=False
    )
    assert found.report["probe"]["counts"] == {"privacy": 6, "safe": 6}
    assert found.report["probe"]["categories"]["illegal_risk"] is None
    assert found.report["probe"]["categories"]["privacy"]["auroc"].value > 0.9
    assert "linear probe, privacy" in write_report(tmp_path, found).read_text(encoding="utf-8")


def test_equal_runs_give_equal_files(world: Path, found: Evaluation, tmp_path: Path) -> None:
    again = evaluate_checkpoint(
        world / "checkpoint", data(world), probe_data=[f"{world}/images"], resamples=RESAMPLES, progress=False
    )
    assert write_report(tmp_path / "deep" / "out", found) == tmp_path / "deep" / "out" / "eval.html"
    write_report(tmp_path / "again", again)
    for name in ("eval.json", "eval.html"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "deep" / "out" / name).read_bytes()


def test_the_page_is_self_contained_and_escapes_file_names(world: Path, found: Evaluation, tmp_path: Path) -> None:
    report = copy.deepcopy(found.report)
    worst = [one for kind in report["mistakes"].values() for one in kind["worst"]]
    worst[0] |= {"file": HOSTILE, "source": HOSTILE}
    report["data"]["failed"] = [
        {"file": HOSTILE, "source": HOSTILE, "category": "safe", "error": "image_empty", "reason": HOSTILE}
    ]
    report["data"]["bad_rows"] = [{"where": HOSTILE, "reason": HOSTILE}]
    report["sources"][HOSTILE] = report["sources"].pop("photos")
    evaluation = dataclasses.replace(found, report=report)
    page = write_report(tmp_path, evaluation).read_text(encoding="utf-8")
    assert "<img" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;\\x1b[31m.png") == 8
    assert "\x1b" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert str(world) not in page
    assert str(world) not in (tmp_path / "eval.json").read_text(encoding="utf-8")
    assert page.count("<svg") == 5
    pictures = write_report(tmp_path, found, thumbnails=True).read_text(encoding="utf-8")
    assert pictures.count('src="data:image/jpeg;base64,') == len(worst) > 0


def test_parts_of_others_stand_in_both_files(found: Evaluation, tmp_path: Path) -> None:
    extra = [Section(key="robustness", html="<section><h2>More</h2></section>", figures={"rate": 0.5})]
    page = write_report(tmp_path, found, extra=extra).read_text(encoding="utf-8")
    assert "<section><h2>More</h2></section>" in page
    assert json.loads((tmp_path / "eval.json").read_text(encoding="utf-8"))["robustness"] == {"rate": 0.5}


def test_the_json_has_stable_keys_and_no_nan(found: Evaluation) -> None:
    report = json.loads(report_json(found))
    assert list(report) == [
        "schema_version", "checkpoint", "policy", "data", "intervals", "any_risk", "categories", "confusion",
        "actions", "levels", "sources", "probe", "mistakes", "versions",
    ]  # fmt: skip
    assert report["any_risk"]["recall"].keys() == {
        "value", "low", "high", "method", "images", "groups", "count", "note",
    }  # fmt: skip
    assert "NaN" not in report_json(found)


def test_nothing_is_dropped_in_silence(world: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes((world / "rows/0.png").read_bytes()[:900])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no image")
    found = evaluate_checkpoint(
        world / "checkpoint", [*data(world), f"safe={tmp_path}"], resamples=RESAMPLES, progress=False
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


def test_one_image_under_two_labels_is_a_bad_row(world: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.png").write_bytes((world / "images/privacy/high/0.png").read_bytes())
    found = evaluate_checkpoint(
        world / "checkpoint", [*data(world), f"safe={tmp_path}"], resamples=RESAMPLES, progress=False
    )
    assert found.report["data"]["judged"] == 60
    assert all("keep one label" in row["reason"] for row in found.report["data"]["bad_rows"])
    assert found.failed == 2


def test_what_the_policy_switched_off_is_not_judged(world: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'schema = 1\nname = "one"\nuncovered = "allow"\n[actions.privacy]\nlow = "caution"\nmedium = "block"\n'
        'high = "block"\n'
    )
    found = evaluate_checkpoint(world / "checkpoint", data(world), policy=policy, resamples=RESAMPLES, progress=False)
    assert found.report["confusion"]["labels"] == ["privacy", "safe"]
    assert found.report["policy"]["name"] == "one"
    assert len(found.report["data"]["bad_rows"]) == 12
    assert "switched off by the policy" in found.report["data"]["bad_rows"][0]["reason"]


def test_safe_images_alone_leave_gaps_with_reasons(world: Path, tmp_path: Path) -> None:
    found = evaluate_checkpoint(world / "checkpoint", [f"safe={world}/photos"], resamples=RESAMPLES, progress=False)
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
def test_data_that_is_not_there_is_refused(world: Path, value: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_sources([value.format(world)])


def test_sources_of_one_name_are_told_apart(world: Path, tmp_path: Path) -> None:
    for name in ("images", "a=b"):
        (tmp_path / name).mkdir()
    parsed = parse_sources([f"{world}/images", f"safe={tmp_path}/images", f"{tmp_path}/a=b"])
    assert [(one.name, one.category) for one in parsed] == [("images", None), ("images-2", "safe"), ("a=b", None)]


def test_refusals_come_before_the_work(world: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="among the images"):
        require_writable(world / "photos" / "out", data(world))
    with pytest.raises(OptionError, match="is a file"):
        require_writable(world / "rows.jsonl", data(world))
    with pytest.raises(DataError, match="'violence' is not in taxonomy"):
        evaluate_checkpoint(world / "checkpoint", [f"violence={world}/photos"], progress=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no labelled image was found"):
        evaluate_checkpoint(world / "checkpoint", [f"{tmp_path}/empty"], progress=False)
    with pytest.raises(DataError, match="it needs safe images and others"):
        evaluate_checkpoint(
            world / "checkpoint", data(world), probe_data=[f"safe={world}/photos"], resamples=100, progress=False
        )


def test_a_checkpoint_without_thresholds_is_refused(world: Path, tmp_path: Path) -> None:
    for file in (world / "checkpoint").iterdir():
        if file.name != CALIBRATION_FILE:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match=r"has no calibration\.json"):
        evaluate_checkpoint(tmp_path, data(world), progress=False)


@pytest.fixture
def own(world: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint, to write into."""
    return Path(shutil.copytree(world / "checkpoint", tmp_path / "own"))


def described(folder: Path, **more: object) -> None:
    """Gives a checkpoint a small training.json, as training writes it."""
    at = {"recall": {"recall": None}, "recall_per_category": {}, "false_positives_per_source": {}}
    none = {"risky_images": 0, "risky_groups": 0, "auroc": None, "average_precision": None, "categories": {}}
    split = none | {"at_thresholds": at, "level_accuracy_of_risky": None}
    recipe = {"model": {"coverage": {"privacy": "Red."}, "preset": "edge"}, "train": {"unfreeze_last": 0}}
    data = {"sources": [], "invented_captures": 0, "bad_rows_left_out": 0, "digest": "sha256:0"}
    record = {
        "name": "own", "license": "MIT", "recipe": recipe, "uncovered": [], "metrics": {"calibration": split},
        "tower": {"name": "t", "tap": "hidden:4", "digest": "sha256:0"}, "best_epoch": 1, "history": [],
        "threads": 1, "versions": {}, "data": data,
    }  # fmt: skip
    (folder / "training.json").write_text(json.dumps(record | more))


def test_the_card_s_record_counts_every_image_once(found: Evaluation) -> None:
    record = summarise(found)
    rows = {(row.source, row.category): row for row in record.sources}
    assert {key: (row.images, row.groups) for key, row in rows.items()} == {
        ("images", "privacy"): (12, 12),
        ("images", "illegal_risk"): (12, 12),
        ("images", "safe"): (12, 12),
        ("photos", "safe"): (13, 13),
        ("rows/drawn", "privacy"): (6, 3),
        ("rows/drawn", "safe"): (6, 3),
    }
    recall = found.report["any_risk"]["recall"]
    assert sum(row.flagged for row in record.sources if row.category != "safe") == recall.count
    assert (record.overall.recall.value, record.overall.recall.low) == (recall.value, recall.low)
    assert record.probe_auroc is not None
    assert record.checkpoint == found.report["checkpoint"]["digest"]
    assert parse_evaluation(evaluation_bytes(record)) == record
    assert not any(name in evaluation_bytes(record).decode() for name in (".png", "onerror", "/deep", "/tmp"))
    assert record.notes == ("The linear probe was fitted on 36 of the evaluated images, too, which favours it.",)


def test_too_many_sources_are_summed_up(found: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "MAX_ROWS", 5)
    record = summarise(found)
    assert {row.source for row in record.sources} == {"images", "photos", "rows"}
    assert "3 sources, too many to list" in record.notes[-1]


def test_robustness_in_the_record_is_the_worst_of_each_corruption(world: Path, found: Evaluation) -> None:
    hardened = harden(world / "checkpoint", found, corrupted=2, attacked=1, progress=False)
    record = summarise(found, hardened)
    assert record.robustness is not None
    names = [row.corruption for row in hardened.result.corruptions]
    assert [row.corruption for row in record.robustness.corruptions] == list(dict.fromkeys(names))
    for row in record.robustness.corruptions:
        harms = [
            one.safe.count - one.risky.count
            for one in hardened.result.corruptions
            if one.corruption == row.corruption
        ]
        assert row.safe_flagged.count - row.risky_flagged.count == max(harms)
    assert len(record.robustness.attacks) == len(hardened.result.attacks) > 0


def test_the_checkpoint_s_card_holds_the_last_evaluation_alone(own: Path, found: Evaluation) -> None:
    before = (own / "README.md").read_text(encoding="utf-8")
    digest = checkpoint_digest(own)
    record = summarise(found)
    for notes in (("First.",), ("Second.",)):
        assert publish_evaluation(own, msgspec.structs.replace(record, notes=notes)) == own / "README.md"
    card = (own / "README.md").read_text(encoding="utf-8")
    assert card == f"{before}\n{evaluation_section(msgspec.structs.replace(record, notes=('Second.',)))}\n"
    assert load_evaluation(own) == msgspec.structs.replace(record, notes=("Second.",))
    assert checkpoint_digest(own) == digest
    assert {file.name for file in own.iterdir()} <= CHECKPOINT_FILES


def test_a_trained_checkpoint_s_card_is_written_anew(own: Path, found: Evaluation) -> None:
    described(own)
    record = summarise(found)
    publish_evaluation(own, record)
    card = (own / "README.md").read_text(encoding="utf-8")
    section = evaluation_section(record)
    training = json.loads((own / "training.json").read_bytes()) | {"calibration": load_calibration(own)}
    assert card.replace(f"{section}\n\n", "") == training_card(training)
    assert card.index("## Evidence") < card.index(section) < card.index("## Thresholds")
    assert "It was not tested against images made to deceive it." in card
    publish_evaluation(own, record)
    assert (own / "README.md").read_text(encoding="utf-8") == card


def test_a_card_after_new_thresholds_keeps_its_words(own: Path, found: Evaluation) -> None:
    described(own, calibrated_again={})
    old = "# own\n\n## The card that training wrote\n\nNo longer holds.\n"
    (own / "README.md").write_text(old)
    record = summarise(found)
    for _ in range(2):
        publish_evaluation(own, record)
        assert (own / "README.md").read_text(encoding="utf-8") == f"{old}\n{evaluation_section(record)}\n"


def test_another_checkpoint_s_figures_are_not_written(own: Path, found: Evaluation) -> None:
    calibration = (own / CALIBRATION_FILE).read_bytes()
    (own / CALIBRATION_FILE).write_bytes(calibration.replace(b'"temperature": 0.3', b'"temperature": 0.4'))
    before = {file.name: file.read_bytes() for file in own.iterdir()}
    with pytest.raises(CheckpointError, match="was measured; leave the checkpoint alone"):
        publish_evaluation(own, summarise(found))
    assert {file.name: file.read_bytes() for file in own.iterdir()} == before


def test_a_write_that_fails_leaves_the_old_file_whole(
    own: Path, found: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = summarise(found)
    publish_evaluation(own, record)
    before = {file.name: file.read_bytes() for file in own.iterdir()}

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safevlm_sdk.atomic.os.replace", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*what was there before is untouched"):
        publish_evaluation(own, msgspec.structs.replace(record, notes=("Another.",)))
    assert {file.name: file.read_bytes() for file in own.iterdir()} == before


def test_a_checkpoint_written_anew_has_no_old_evaluation(own: Path, found: Evaluation) -> None:
    publish_evaluation(own, summarise(found))
    save_checkpoint(own, load_modules(own), calibration=load_calibration(own))
    assert load_evaluation(own) is None
    assert HEADING not in (own / "README.md").read_text(encoding="utf-8")


def test_a_card_that_cannot_be_written_stops_before_work(own: Path, tmp_path: Path) -> None:
    (own / "training.json").write_text('{"name": "old"}')
    command = ["eval", str(own), "--data", f"safe={tmp_path}", "--card"]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, CheckpointError)
    assert "was it written by another version?" in str(done.exception)
    done = CliRunner().invoke(app, [*command, "--policy", "mine.toml"])
    assert "leave --policy out" in str(done.exception)


def test_the_command_writes_the_card(own: Path, world: Path) -> None:
    options = ["--data", f"safe={world}/photos", "--resamples", "100", "--json", "--card"]
    done = CliRunner().invoke(app, ["eval", str(own), *options])
    assert (done.exit_code, done.stderr) == (0, f"card: {own}/README.md\n")
    record = load_evaluation(own)
    assert record is not None
    assert [(row.source, row.images) for row in record.sources] == [("photos", 13)]
    assert record.overall.recall.value is None
    assert "| recall (risky images flagged) | not measured |" in (own / "README.md").read_text(encoding="utf-8")


def test_the_command(world: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from safevlm_sdk.command import main; main()", "eval", f"{world}/checkpoint"]
    options = ["--data", f"safe={world}/photos", "--resamples", "100"]
    done = subprocess.run(
        [*command, *options, "--data", f"{world}/images", "--out", tmp_path / "out"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, f"report: {tmp_path}/out/eval.html\n")
    assert "49 images in 49 groups: 12 privacy, 12 illegal_risk, 25 safe" in done.stdout
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["eval.html", "eval.json"]
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x\x1b[31m.png").write_bytes(b"no image")
    done = subprocess.run(
        [*command, *options, "--data", f"safe={tmp_path}/bad", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["data"]["failed"][0]["error"] == "image_format"
