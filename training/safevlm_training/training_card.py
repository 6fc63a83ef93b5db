"""The model card of a trained checkpoint: its numbers come from training.json, calibration.json, evaluation.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from safevlm_sdk.calibration.bounds import upper_bound
from safevlm_sdk.card_header import card_header
from safevlm_sdk.evaluation_card import evaluation_section
from safevlm_sdk.evaluation_record import EvaluationRecord


def training_card(record: Mapping[str, Any], evaluation: EvaluationRecord | None = None) -> str:
    """Markdown with the metadata header of the Hugging Face Hub.

    Args:
        record: The content of training.json, with `calibration` added.
        evaluation: Of this very checkpoint.
    """
    facts: dict[str, Any] = msgspec.to_builtins(dict(record))
    parts = [
        _header(facts, evaluation),
        _coverage(facts),
        _evidence(facts),
        *(() if evaluation is None else (evaluation_section(evaluation),)),
        _thresholds(facts),
        _training(facts),
        _data(facts),
        _limits(facts, evaluation),
    ]
    return "\n\n".join(parts) + "\n"


def _header(facts: dict[str, Any], evaluation: EvaluationRecord | None) -> str:
    return "\n".join(
        [
            card_header(facts["name"], license=facts["license"], evaluation=evaluation),
            "",
            f"# {_cell(facts['name'])}",
            "",
            "A SafeVLM image gate. It judges the image alone: a harmless image under a harmful question is not its "
            "to see.",
        ]
    )


def _coverage(facts: dict[str, Any]) -> str:
    rows = [(f"`{risk}`", claim) for risk, claim in facts["recipe"]["model"]["coverage"].items()]
    absent = ", ".join(f"`{name}`" for name in facts["uncovered"]) or "none"
    return (
        f"## What it covers\n\n{_table(('risk', 'what is claimed'), rows)}\n\n"
        f"Not covered, never looked for, and never reported as absent from an image: {absent}."
    )


def _evidence(facts: dict[str, Any]) -> str:
    rows = []
    for split, found in facts["metrics"].items():
        at = found["at_thresholds"]
        rows.append(
            (
                split,
                f"any risk ({found['risky_images']} images, {found['risky_groups']} groups)",
                _number(found["auroc"]),
                _number(found["average_precision"]),
                _number(at["recall"]["recall"]),
            )
        )
        for risk, one in found["categories"].items():
            size = f"`{risk}` ({one['images']} images, {one['groups']} groups)"
            recall = at["recall_per_category"][risk]["recall"]
            rows.append((split, size, _number(one["auroc"]), _number(one["average_precision"]), _number(recall)))
    alarms = []
    for split, found in facts["metrics"].items():
        for source, one in found["at_thresholds"]["false_positives_per_source"].items():
            alarms.append((split, source, one["safe_images"], one["flagged"], _number(one["rate"])))
    return (
        "## Evidence\n\nThe epoch and the temperature were chosen on the validation split, the thresholds on the "
        "calibration split: neither is a test set.\n\n"
        f"{_table(('split', 'positives', 'AUROC', 'average precision', 'recall at the thresholds'), rows)}\n\n"
        f"{_table(('split', 'source', 'safe images', 'flagged', 'false positive rate'), alarms)}\n\n{_levels(facts)}"
    )


def _levels(facts: dict[str, Any]) -> str:
    found = ", ".join(
        f"{_number(one['level_accuracy_of_risky'])} ({split}, {one['risky_images']} images)"
        for split, one in facts["metrics"].items()
    )
    return f"Share of risky images whose level (low, medium, high) is the labelled one: {found}."


def _thresholds(facts: dict[str, Any]) -> str:
    calibration, thresholds = facts["calibration"]["calibration"], facts["calibration"]["thresholds"]
    rows = [(f"`{name}`", value) for name, value in thresholds["categories"].items()]
    rows.append(("any risk", thresholds["any"]))
    return (
        f"## Thresholds\n\n{_table(('threshold on', 'value'), rows)}\n\nTemperature {calibration['temperature']}. "
        f"{calibration['note']}"
    )


def _training(facts: dict[str, Any]) -> str:
    tower, recipe, versions = facts["tower"], facts["recipe"]["train"], facts["versions"]
    tuned = f"last {recipe['unfreeze_last']} blocks tuned" if recipe["unfreeze_last"] else "frozen"
    rows: list[tuple[Any, ...]] = [
        (f"vision tower ({tuned})", f"{tower['name']}, {tower['tap']}"),
        ("digest of the published tower", f"`{tower['digest']}`"),
        ("preset", facts["recipe"]["model"]["preset"]),
        ("kept epoch", f"{facts['best_epoch']} of {len(facts['history'])}"),
        ("threads", facts["threads"]),
    ]
    rows += [(name, json.dumps(value)) for name, value in recipe.items()]
    for part in ("lm", "lora"):
        rows += [(f"{part}: {name}", json.dumps(value)) for name, value in (facts.get(part) or {}).items()]
    rows += [(name, version) for name, version in versions.items()]
    return f"## How it was trained\n\n{_table(('setting', 'value'), rows)}"


def _data(facts: dict[str, Any]) -> str:
    data = facts["data"]
    rows = []
    for source in data["sources"]:
        counts = "; ".join(
            f"{split}: " + ", ".join(f"{number} {category}" for category, number in sorted(categories.items()))
            for split, categories in source["splits"].items()
            if categories
        )
        rows.append((source["name"], source["license"], source["images"], source["groups"], counts))
    captures = data["invented_captures"]
    invented = f" Beside the images, {captures} invented captures of them were trained on." if captures else ""
    return (
        f"## Data\n\n{_table(('source', 'licence', 'images', 'groups', 'splits'), rows)}\n\n"
        f"Rows left out because they could not be used: {data['bad_rows_left_out']}. Digest `{data['digest']}`."
        f"{invented}"
    )


def _limits(facts: dict[str, Any], evaluation: EvaluationRecord | None) -> str:
    return (
        "## Known limits\n\n"
        "- The figures hold for images like those above. On other images, false alarms and misses may be far more "
        "frequent: judge your own harmless images first, and set thresholds on them with `safevlm calibrate`.\n"
        f"{_misses(facts)}"
        "- It sees an image once, shrunk to the size of its tower: small details and small print are lost on it.\n"
        f"{_attacks(evaluation)}"
    )


def _attacks(evaluation: EvaluationRecord | None) -> str:
    if evaluation is None or evaluation.robustness is None or not evaluation.robustness.attacks:
        return "- It was not tested against images made to deceive it."
    return "- Images made with its weights can deceive it: the evaluation above counts how often a few attacks did."


def _misses(facts: dict[str, Any]) -> str:
    groups = facts["metrics"]["calibration"]["risky_groups"]
    if not groups:
        return "- No risky image was kept to measure misses after the thresholds were set.\n"
    return (
        f"- Images of one group are alike: {groups} risky groups in the calibration split could not tell a miss rate "
        f"of {upper_bound(0, groups):.2g} from none (95 %, one-sided).\n"
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"
