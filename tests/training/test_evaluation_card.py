"""An evaluation is written into its checkpoint, and into the checkpoint's card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from safevlm_sdk.card_header import with_model_index
from safevlm_sdk.command.app import app
from safevlm_sdk.errors import CheckpointError, PolicyError
from safevlm_sdk.evaluation_card import HEADING, evaluation_section
from safevlm_sdk.evaluation_record import evaluation_bytes, parse_evaluation
from safevlm_sdk.policy import default_policy_text, load_policy, parse_policy
from safevlm_sdk.taxonomy import Category, Taxonomy
from safevlm_training.card import TITLE
from safevlm_training.checkpoint import (
    CALIBRATION_FILE,
    CHECKPOINT_FILES,
    checkpoint_digest,
    load_calibration,
    load_evaluation,
    load_modules,
    save_checkpoint,
)
from safevlm_training.config import config_bytes, load_config, pretty_json
from safevlm_training.evaluation import summary
from safevlm_training.evaluation.evaluate import Evaluation
from safevlm_training.evaluation.hardening import Hardened
from safevlm_training.evaluation.publishing import publish_evaluation
from safevlm_training.evaluation.summary import summarise
from safevlm_training.training_card import training_card

POLICY = 'schema = 1\nname = "mine"\nuncovered = "allow"\non_error = "block"\n'
SPAM = Category(usual_level=1, description="Advertisements.")
ACTIONS = '[actions.privacy]\nlow = "caution"\nmedium = "block"\nhigh = "block"\n'


@pytest.fixture
def own(eval_world: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint, to write into."""
    return Path(shutil.copytree(eval_world / "checkpoint", tmp_path / "own"))


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


def test_the_card_s_record_counts_every_image_once(evaluated: Evaluation) -> None:
    record = summarise(evaluated)
    rows = {(row.source, row.category): row for row in record.sources}
    assert {key: (row.images, row.groups) for key, row in rows.items()} == {
        ("images", "privacy"): (12, 12),
        ("images", "illegal_risk"): (12, 12),
        ("images", "safe"): (12, 12),
        ("photos", "safe"): (13, 13),
        ("rows/drawn", "privacy"): (6, 3),
        ("rows/drawn", "safe"): (6, 3),
    }
    recall = evaluated.report["any_risk"]["recall"]
    assert sum(row.flagged for row in record.sources if row.category != "safe") == recall.count
    assert (record.overall.recall.value, record.overall.recall.low) == (recall.value, recall.low)
    assert record.probe_auroc is not None
    assert record.checkpoint == evaluated.report["checkpoint"]["digest"]
    assert parse_evaluation(evaluation_bytes(record)) == record
    assert not any(name in evaluation_bytes(record).decode() for name in (".png", "onerror", "/deep", "/tmp"))
    assert record.notes == ("The linear probe was fitted on 36 of the evaluated images, too, which favours it.",)


def test_too_many_sources_are_summed_up(evaluated: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "MAX_ROWS", 5)
    record = summarise(evaluated)
    assert {row.source for row in record.sources} == {"images", "photos", "rows"}
    assert "3 sources, too many to list" in record.notes[-1]


def test_robustness_in_the_record_is_the_worst_of_each_corruption(evaluated: Evaluation, hardened: Hardened) -> None:
    record = summarise(evaluated, hardened)
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


def test_the_checkpoint_s_card_holds_the_last_evaluation_alone(own: Path, evaluated: Evaluation) -> None:
    before = (own / "README.md").read_text(encoding="utf-8")
    digest = checkpoint_digest(own)
    record = summarise(evaluated)
    for notes in (("First.",), ("Second.",)):
        assert publish_evaluation(own, msgspec.structs.replace(record, notes=notes)) == own / "README.md"
    card = (own / "README.md").read_text(encoding="utf-8")
    second = msgspec.structs.replace(record, notes=("Second.",))
    assert card == f"{with_model_index(before, TITLE, second)}\n{evaluation_section(second)}\n"
    assert load_evaluation(own) == second
    assert checkpoint_digest(own) == digest
    assert {file.name for file in own.iterdir()} <= CHECKPOINT_FILES


def test_a_trained_checkpoint_s_card_is_written_anew(own: Path, evaluated: Evaluation) -> None:
    described(own)
    record = summarise(evaluated)
    publish_evaluation(own, record)
    card = (own / "README.md").read_text(encoding="utf-8")
    section = evaluation_section(record)
    training = json.loads((own / "training.json").read_bytes()) | {"calibration": load_calibration(own)}
    without = with_model_index(card, "own", None).replace(f"{section}\n\n", "")
    assert without == training_card(training) != card
    assert card.index("## Evidence") < card.index(section) < card.index("## Thresholds")
    assert "It was not tested against images made to deceive it." in card
    publish_evaluation(own, record)
    assert (own / "README.md").read_text(encoding="utf-8") == card


def test_a_card_after_new_thresholds_keeps_its_words(own: Path, evaluated: Evaluation) -> None:
    described(own, calibrated_again={})
    old = "---\nlicense: mit\n---\n\n# own\n\n## The card that training wrote\n\nNo longer holds.\n"
    (own / "README.md").write_text(old)
    record = summarise(evaluated)
    for _ in range(2):
        publish_evaluation(own, record)
        told = with_model_index(old, "own", record)
        assert (own / "README.md").read_text(encoding="utf-8") == f"{told}\n{evaluation_section(record)}\n"


def test_another_checkpoint_s_figures_are_not_written(own: Path, evaluated: Evaluation) -> None:
    calibration = (own / CALIBRATION_FILE).read_bytes()
    (own / CALIBRATION_FILE).write_bytes(calibration.replace(b'"temperature": 0.3', b'"temperature": 0.4'))
    before = {file.name: file.read_bytes() for file in own.iterdir()}
    with pytest.raises(CheckpointError, match="was measured; leave the checkpoint alone"):
        publish_evaluation(own, summarise(evaluated))
    assert {file.name: file.read_bytes() for file in own.iterdir()} == before


def test_a_write_that_fails_leaves_the_old_file_whole(
    own: Path, evaluated: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = summarise(evaluated)
    publish_evaluation(own, record)
    before = {file.name: file.read_bytes() for file in own.iterdir()}

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safevlm_sdk.atomic.os.replace", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*what was there before is untouched"):
        publish_evaluation(own, msgspec.structs.replace(record, notes=("Another.",)))
    assert {file.name: file.read_bytes() for file in own.iterdir()} == before


def test_a_checkpoint_written_anew_has_no_old_evaluation(own: Path, evaluated: Evaluation) -> None:
    publish_evaluation(own, summarise(evaluated))
    save_checkpoint(own, load_modules(own), calibration=load_calibration(own))
    assert load_evaluation(own) is None
    assert HEADING not in (own / "README.md").read_text(encoding="utf-8")


def test_a_card_that_cannot_be_written_stops_before_work(own: Path, tmp_path: Path) -> None:
    (own / "training.json").write_text('{"name": "old"}')
    command = ["eval", str(own), "--data", f"safe={tmp_path}", "--card"]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, CheckpointError)
    assert "was it written by another version?" in str(done.exception)
    (tmp_path / "mine.toml").write_text(POLICY + "any_threshold = 0.5\n" + ACTIONS)
    done = CliRunner().invoke(app, [*command, "--policy", f"{tmp_path}/mine.toml"])
    assert "leave those of the policy out" in str(done.exception)


def test_the_card_says_that_another_policy_was_measured(own: Path, eval_world: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(POLICY + ACTIONS)
    options = ["--data", f"safe={eval_world}/photos", "--resamples", "100", "--json", "--card"]
    done = CliRunner().invoke(app, ["eval", str(own), *options, "--policy", f"{tmp_path}/mine.toml"])
    assert done.exit_code == 0, done.output
    record, card = load_evaluation(own), (own / "README.md").read_text(encoding="utf-8")
    assert record is not None
    assert record.policy == load_policy(tmp_path / "mine.toml").digest
    assert "under the policy of the digest below, which is not the default one of SafeVLM SDK" in card
    assert f"policy `{record.policy}`" in card


def test_a_policy_that_wants_nothing_of_it_is_refused(own: Path, eval_world: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(POLICY + ACTIONS.replace("privacy", "fairness"))
    options = ["--data", f"safe={eval_world}/photos", "--policy", f"{tmp_path}/mine.toml"]
    done = CliRunner().invoke(app, ["eval", str(own), *options])
    assert isinstance(done.exception, PolicyError)
    assert "nothing would be judged: the checkpoint covers privacy" in str(done.exception)


def test_a_taxonomy_of_ones_own_has_a_default_policy(own: Path, eval_world: Path) -> None:
    config = load_config(own)
    spam = Taxonomy(name="mail", categories={"privacy": config.taxonomy.categories["privacy"], "illegal_risk": SPAM})
    (own / "config.json").write_bytes(config_bytes(msgspec.structs.replace(config, taxonomy=spam)))
    options = ["--data", f"safe={eval_world}/photos", "--resamples", "100", "--json", "--card"]
    done = CliRunner().invoke(app, ["eval", str(own), *options])
    assert done.exit_code == 0, done.output
    default = parse_policy(default_policy_text(spam))
    assert json.loads(done.stdout)["policy"] == {"name": "default-mail", "digest": default.digest}
    assert "which is not the default one of SafeVLM SDK" in (own / "README.md").read_text(encoding="utf-8")


def test_what_the_default_policy_leaves_off_is_refused_before_weights_are_read(own: Path, eval_world: Path) -> None:
    config, calibrated = load_config(own), load_calibration(own)
    assert calibrated is not None
    (own / "config.json").write_bytes(config_bytes(msgspec.structs.replace(config, coverage={"politics": "Flags."})))
    thresholds = msgspec.structs.replace(calibrated.thresholds, categories={"politics": 0.5})
    (own / CALIBRATION_FILE).write_bytes(pretty_json(msgspec.structs.replace(calibrated, thresholds=thresholds)))
    (own / "safety.safetensors").unlink()
    done = CliRunner().invoke(app, ["eval", str(own), "--data", f"safe={eval_world}/photos"])
    assert isinstance(done.exception, PolicyError)
    assert "pass --policy FILE, a policy with [actions.politics]" in str(done.exception)


def test_the_command_writes_the_card(own: Path, eval_world: Path) -> None:
    options = ["--data", f"safe={eval_world}/photos", "--resamples", "100", "--json", "--card"]
    done = CliRunner().invoke(app, ["eval", str(own), *options])
    assert (done.exit_code, done.stderr) == (0, f"card: {own}/README.md\n")
    record = load_evaluation(own)
    assert record is not None
    assert [(row.source, row.images) for row in record.sources] == [("photos", 13)]
    assert record.overall.recall.value is None
    assert "| recall (risky images flagged) | not measured |" in (own / "README.md").read_text(encoding="utf-8")
