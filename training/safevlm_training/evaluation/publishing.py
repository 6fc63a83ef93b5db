"""Writing an evaluation into the checkpoint that it is of: `evaluation.json` and a section of the card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safevlm_sdk.atomic import publish_file
from safevlm_sdk.card_header import with_model_index
from safevlm_sdk.errors import CheckpointError
from safevlm_sdk.evaluation_card import evaluation_section, with_section
from safevlm_sdk.evaluation_record import EVALUATION_FILE, EvaluationRecord, evaluation_bytes
from safevlm_training.card import TITLE, model_card
from safevlm_training.checkpoint import (
    CARD_FILE,
    TRAINING_FILE,
    checkpoint_digest,
    load_calibration,
    load_naming,
)
from safevlm_training.config import load_config, parse_json, read_file
from safevlm_training.training_card import training_card


def require_card(checkpoint: Path) -> None:
    """Checks, before any work, that the checkpoint's card can be written anew.

    Raises:
        CheckpointError: It cannot.
    """
    _card(checkpoint, None)


def publish_evaluation(checkpoint: Path, record: EvaluationRecord) -> Path:
    """Writes both files, each in one step, and returns the card's path; an earlier evaluation is replaced.

    Args:
        checkpoint: A calibrated checkpoint.
        record: Measured on it.

    Raises:
        CheckpointError: The checkpoint is no longer what was measured, or cannot be written; the message says what
            is in place.
    """
    found = checkpoint_digest(checkpoint)
    if found != record.checkpoint:
        raise CheckpointError(
            f"{checkpoint}: is now {found}, but {record.checkpoint} was measured; leave the checkpoint alone while "
            "`safevlm eval --card` runs, and run it again"
        )
    card = _card(checkpoint, record)
    publish_file(checkpoint / EVALUATION_FILE, evaluation_bytes(record), error=CheckpointError)
    publish_file(checkpoint / CARD_FILE, card.encode("utf-8"), error=CheckpointError)
    return checkpoint / CARD_FILE


def _card(checkpoint: Path, record: EvaluationRecord | None) -> str:
    calibration = load_calibration(checkpoint)
    if calibration is None:
        raise CheckpointError(f"{checkpoint}: has no calibration.json, so it decides nothing yet; calibrate it first")
    training = _training(checkpoint)
    if training is None:
        config = load_config(checkpoint)
        return model_card(config, calibration.calibration, calibration.thresholds, record)
    if "calibrated_again" in training:
        # Only the card that `safevlm calibrate` wrote tells which of training's figures no longer hold.
        old = read_file(checkpoint / CARD_FILE).decode("utf-8", "replace")
        if record is None:
            return old
        name = load_naming(checkpoint).name or TITLE
        return with_section(with_model_index(old, name, record), evaluation_section(record))
    try:
        return training_card(training | {"calibration": calibration}, record)
    except (KeyError, TypeError, AttributeError) as problem:
        raise CheckpointError(
            f"{checkpoint / TRAINING_FILE}: lacks what a card tells ({problem}); was it written by another version? "
            "Train again with this one, or leave --card out"
        ) from problem


def _training(checkpoint: Path) -> dict[str, Any] | None:
    file = checkpoint / TRAINING_FILE
    return parse_json(read_file(file), dict[str, Any], where=str(file)) if file.exists() else None
