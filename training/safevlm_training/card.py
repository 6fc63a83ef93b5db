"""The model card of a checkpoint: what it claims, and what it does not."""

from __future__ import annotations

from safevlm_sdk.card_header import card_header
from safevlm_sdk.evaluation_card import evaluation_section
from safevlm_sdk.evaluation_record import EvaluationRecord
from safevlm_sdk.manifest import Calibration, Thresholds
from safevlm_training.config import SafetyConfig

TITLE = "A SafeVLM image gate"


def model_card(
    config: SafetyConfig,
    calibration: Calibration | None,
    thresholds: Thresholds | None,
    evaluation: EvaluationRecord | None = None,
) -> str:
    """Markdown with the metadata header of the Hugging Face Hub; `evaluation` is of this very checkpoint."""
    claims = "\n".join(f"| `{risk}` | {_cell(claim)} |" for risk, claim in config.coverage.items())
    absent = [name for name in config.taxonomy.categories if name not in config.coverage]
    not_seen = ", ".join(f"`{name}`" for name in absent) or "none"
    card = f"""{card_header(TITLE, evaluation=evaluation)}

# {TITLE}

It judges the image alone, not the question beside it.

| covered risk | what is claimed |
| --- | --- |
{claims}

Categories of taxonomy `{config.taxonomy.name}` that it was not trained to see, and says nothing about: {not_seen}.

| | |
| --- | --- |
| preset | {config.preset} |
| vision tower | {config.tower.name}, {config.tower.tap} |
| tower digest | `{config.tower.digest}` |
| image size | {config.preprocessing.height} x {config.preprocessing.width} |

## Calibration

{_calibration(calibration, thresholds)}
"""
    return card if evaluation is None else f"{card}\n{evaluation_section(evaluation)}\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _calibration(calibration: Calibration | None, thresholds: Thresholds | None) -> str:
    if calibration is None or thresholds is None:
        return "Not calibrated: its probabilities and decisions mean nothing yet."
    lines = [
        f"Method {calibration.method}, temperature {calibration.temperature:.4g}, on {calibration.risky_groups} "
        f"risky and {calibration.safe_groups} safe groups of images. {calibration.note}",
        "",
        "| threshold on | value |",
        "| --- | --- |",
        *(f"| `{name}` | {value:.4g} |" for name, value in thresholds.categories.items()),
        f"| any risk | {thresholds.any:.4g} |",
    ]
    return "\n".join(lines)
