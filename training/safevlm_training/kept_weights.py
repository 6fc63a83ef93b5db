"""Weights that an earlier run left: a recipe that differs only in its thresholds does not train again."""

from __future__ import annotations

from pathlib import Path

import msgspec

from safevlm_sdk.errors import CheckpointError
from safevlm_training.checkpoint import TRAINING_FILE, load_modules, load_tower_state
from safevlm_training.config import read_file
from safevlm_training.modules import SafetyModules
from safevlm_training.towers.load import overlay
from safevlm_training.towers.tower import Tower


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """What training.json says of the weights beside it.

    Attributes:
        fingerprint: Of whatever they depend on.
        best_epoch: Whose weights were kept.
        history: Of all epochs.
        threads: That torch ran on.
        tower: With `tuned_digest`, where blocks were tuned.
    """

    fingerprint: str
    best_epoch: int
    history: list[dict[str, object]]
    threads: int
    tower: dict[str, str]


def take_weights(checkpoint: Path, fingerprint: str, modules: SafetyModules, tower: Tower) -> Trained | None:
    """Puts the weights of an earlier run with this fingerprint into modules and tower; None where there are none.

    Raises:
        CheckpointError: The checkpoint says that it is of this run, but is damaged.
    """
    if not (checkpoint / TRAINING_FILE).exists():
        return None
    try:
        trained = msgspec.json.decode(read_file(checkpoint / TRAINING_FILE), type=Trained)
    except msgspec.DecodeError:
        return None  # of another version
    if trained.fingerprint != fingerprint:
        return None
    modules.load_state_dict(load_modules(checkpoint).state_dict())
    tuned = load_tower_state(checkpoint)
    if tuned is not None:
        overlay(tower, str(checkpoint), tuned)
    if tower.digest != trained.tower.get("tuned_digest", trained.tower["digest"]):
        raise CheckpointError(
            f"{checkpoint}: its tuned tower is not the one of {TRAINING_FILE}; remove the folder to train again"
        )
    return trained
