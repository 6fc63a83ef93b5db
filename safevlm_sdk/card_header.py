"""The metadata at the top of a model card, as the Hugging Face hub reads it: licence, tags and `model-index`.

`model-index` is the hub's form of evaluation results. It is written only of an evaluation that the card tells, and
holds the figures over all of its images.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from safevlm_sdk.evaluation_record import EvaluationRecord, Figure

# SPDX's name to the hub's; the hub refuses a licence that it does not know.
LICENSES = {
    name: name.lower()
    for name in (
        "AGPL-3.0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0",
        "CC-BY-SA-4.0", "CC0-1.0", "GPL-2.0", "GPL-3.0", "LGPL-3.0", "MIT", "MPL-2.0", "Unlicense",
    )
}  # fmt: skip
METRICS = {
    "recall": ("recall", "recall of risky images, at the shipped thresholds"),
    "false_positive_rate": ("false_positive_rate", "share of safe images that are flagged"),
    "precision": ("precision", "precision at the shipped thresholds"),
    "f1": ("f1", "F1 at the shipped thresholds"),
    "auroc": ("roc_auc", "AUROC of any risk against safe"),
    "average_precision": ("average_precision", "average precision of any risk against safe"),
    "level_accuracy": ("accuracy", "share of images whose level is the labelled one"),
    "expected_calibration_error": ("expected_calibration_error", "expected calibration error"),
}

_HEADER = re.compile(r"\A---\n(.*?^)---\n", re.DOTALL | re.MULTILINE)
_INDEX = re.compile(r"^model-index:\n(?:[ -].*\n)*", re.MULTILINE)


def card_header(name: str, *, license: str | None = None, evaluation: EvaluationRecord | None = None) -> str:
    """YAML between two lines `---`, without a line end after it.

    Args:
        name: Of the model.
        license: Of the weights, in anyone's words; None: not known.
        evaluation: Of this very model at its thresholds.
    """
    lines = [
        "---",
        "library_name: safevlm-sdk",
        *_license(license),
        "pipeline_tag: image-classification",
        "tags: [safety, moderation, safevlm]",
        *(() if evaluation is None else _model_index(name, evaluation)),
        "---",
    ]
    return "\n".join(lines)


def with_model_index(card: str, name: str, evaluation: EvaluationRecord | None) -> str:
    """A card whose header tells this evaluation, or none, in the place of the one that it told."""
    found = _HEADER.match(card)
    if found is None:
        return f"{card_header(name, evaluation=evaluation)}\n\n{card}"
    told = () if evaluation is None else _model_index(name, evaluation)
    lines = _INDEX.sub("", found[1]) + "".join(f"{line}\n" for line in told)
    return f"---\n{lines}---\n{card[found.end() :]}"


def _license(license: str | None) -> Sequence[str]:
    if license in (None, "NOASSERTION"):
        return ()
    known = LICENSES.get(license)
    if known is not None:
        return (f"license: {known}",)
    name = re.sub(r"[^a-z0-9.-]+", "-", license.lower())[:96].strip("-")  # the hub takes no other characters
    return ("license: other", *((f"license_name: {_text(name)}",) if name else ()))


def _model_index(name: str, record: EvaluationRecord) -> list[str]:
    measured = [
        line
        for field, (kind, title) in METRICS.items()
        for line in _metric(kind, title, getattr(record.overall, field))
    ]
    if not measured:
        return []
    return [
        "model-index:",
        f"- name: {_text(name)}",
        "  results:",
        "  - task:",
        "      type: image-classification",
        "      name: image safety",
        "    dataset:",
        "      type: safevlm-eval",
        f"      name: {record.images} images in {record.groups} groups of like images",
        "      args:",
        f"        digest: {record.data}",
        "    metrics:",
        *measured,
    ]


def _metric(kind: str, title: str, figure: Figure) -> list[str]:
    if figure.value is None:
        return []
    lines = [f"    - type: {kind}", f"      name: {title}", f"      value: {_number(figure.value)}"]
    if figure.low is not None and figure.high is not None:
        lines += ["      args:", f"        interval_95: [{_number(figure.low)}, {_number(figure.high)}]"]
    return lines


def _number(value: float) -> str:
    """Never in the form 1e-05, which YAML 1.1 reads as text."""
    return f"{value:.6f}"


def _text(text: str) -> str:
    """A JSON string is a YAML string, if it holds nothing that YAML wants escaped otherwise."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    return json.dumps(" ".join(shown.split()), ensure_ascii=False)
