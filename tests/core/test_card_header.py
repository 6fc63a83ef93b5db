"""The metadata of model cards, read by huggingface_hub's own parser and by a plain one of YAML."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from safevlm_runtime.bundle.reader import read_bundle, starter_path
from safevlm_sdk.bundle_card import bundle_card
from safevlm_sdk.card_header import card_header, with_model_index
from safevlm_sdk.evaluation_record import EvaluationRecord, Figure, parse_evaluation

CHECKPOINT = Path(__file__).resolve().parents[2] / "starter" / "checkpoint"
MEASURED = {
    "recall": "recall", "false_positive_rate": "false_positive_rate", "precision": "precision", "f1": "f1",
    "roc_auc": "auroc", "average_precision": "average_precision", "accuracy": "level_accuracy",
    "expected_calibration_error": "expected_calibration_error",
}  # fmt: skip


@pytest.fixture(scope="module")
def record() -> EvaluationRecord:
    return parse_evaluation((CHECKPOINT / "evaluation.json").read_bytes())


def changed(record: EvaluationRecord, **figures: Figure) -> EvaluationRecord:
    return msgspec.structs.replace(record, overall=msgspec.structs.replace(record.overall, **figures))


def check(card: str, name: str, record: EvaluationRecord) -> None:
    """Every figure of the record is in the card's model-index, and nothing else is."""
    data = ModelCard(card).data
    assert data.model_name == name
    assert {one.metric_type for one in data.eval_results} == set(MEASURED)
    for one in data.eval_results:
        figure = getattr(record.overall, MEASURED[one.metric_type])
        assert one.metric_value == pytest.approx(figure.value, abs=1e-6)
        assert one.metric_args["interval_95"] == pytest.approx([figure.low, figure.high], abs=1e-6)
        assert one.task_type == "image-classification"
        assert one.dataset_args == {"digest": record.data}
        assert str(record.images) in one.dataset_name


def test_the_starters_card_tells_its_evaluation(record: EvaluationRecord) -> None:
    card = (CHECKPOINT / "README.md").read_text(encoding="utf-8")
    check(card, "safevlm-starter-documents", record)
    assert ModelCard(card).data.license == "apache-2.0"


def test_a_bundles_card_tells_the_evaluation_that_it_was_exported_with(record: EvaluationRecord) -> None:
    bundle = read_bundle(starter_path())
    check(bundle_card(bundle.manifest, bundle.policy, record), bundle.manifest.name, record)
    without = ModelCard(bundle_card(bundle.manifest, bundle.policy))
    assert (without.data.eval_results, without.data.pipeline_tag) == (None, "image-classification")
    assert without.text.lstrip().startswith(f"# {bundle.manifest.name}\n")


def test_what_was_not_measured_is_not_there(record: EvaluationRecord) -> None:
    none = Figure(value=None, low=None, high=None)
    some = ModelCard(
        card_header("x", evaluation=changed(record, recall=none, f1=Figure(value=1e-7, low=None, high=None)))
    )
    values = {one.metric_type: (one.metric_value, one.metric_args) for one in some.data.eval_results}
    assert "recall" not in values
    assert values["f1"] == (0.0, None)
    nothing = changed(record, **dict.fromkeys(MEASURED.values(), none))
    assert "model-index" not in card_header("x", evaluation=nothing)


def test_a_small_figure_is_a_number(record: EvaluationRecord) -> None:
    small = Figure(value=1e-5, low=0.0, high=2e-5)
    header = card_header("x", evaluation=changed(record, expected_calibration_error=small))
    (found,) = (one for one in ModelCard(header).data.eval_results if "calibration" in one.metric_type)
    assert (found.metric_value, found.metric_args) == (1e-5, {"interval_95": [0.0, 2e-5]})


@given(name=st.text(min_size=1), license=st.text())
def test_no_name_and_no_licence_breaks_the_header(name: str, license: str) -> None:
    record = parse_evaluation((CHECKPOINT / "evaluation.json").read_bytes())
    header = card_header(name, license=license, evaluation=record)
    first, text, last = re.split(r"^---$", header, flags=re.MULTILINE)
    assert (first, last) == ("", "")
    data = yaml.safe_load(text)
    assert data["library_name"] == "safevlm-sdk"
    shown = "".join(one if one.isprintable() else " " for one in name)
    assert data["model-index"][0]["name"] == " ".join(shown.split())
    assert data["license"] in ("other", license.lower())
    assert re.fullmatch(r"[a-z0-9.-]+", data.get("license_name", "x"))


@pytest.mark.parametrize(
    ("license", "lines"),
    [
        ("Apache-2.0", ["license: apache-2.0"]),
        ("my own weights", ["license: other", 'license_name: "my-own-weights"']),
        ("???", ["license: other"]),
        (None, []),
    ],
)
def test_a_licence_is_one_that_the_hub_takes(license: str | None, lines: list[str]) -> None:
    assert [line for line in card_header("x", license=license).splitlines() if "license" in line] == lines


def test_a_model_index_is_replaced_and_removed_and_nothing_else_is(record: EvaluationRecord) -> None:
    card = "---\nlicense: mit\nmodel-index:\n- name: old\n  results: []\nwidget: mine\n---\n\n# Mine\n\n---\n\nmore\n"
    told = with_model_index(card, "new", record)
    check(told, "new", record)
    assert ModelCard(told).data.to_dict()["widget"] == "mine"
    assert told.endswith("---\n\n# Mine\n\n---\n\nmore\n")
    assert with_model_index(told, "new", record) == told
    assert with_model_index(told, "new", None) == card.replace("model-index:\n- name: old\n  results: []\n", "")
    check(with_model_index("# Mine\n", "new", record), "new", record)
