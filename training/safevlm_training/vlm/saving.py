"""The checkpoint folder of a SafeVLM: what is written, read and uploaded. The base model's weights never are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoModelForImageTextToText

from safevlm_sdk.errors import CheckpointError
from safevlm_training.checkpoint import (
    CARD_FILE,
    LORA_FOLDER,
    PROCESSOR_FOLDER,
    TRAINING_FILE,
    CheckpointCalibration,
    load_calibration,
    load_modules,
    save_checkpoint,
)
from safevlm_training.config import TowerConfig, read_file
from safevlm_training.hub import find_checkpoint
from safevlm_training.modules import SafetyModules
from safevlm_training.quiet import quiet
from safevlm_training.vlm.language import check_language
from safevlm_training.vlm.load_processor import load_processor
from safevlm_training.vlm.lora import Lora, load_lora
from safevlm_training.vlm.processor import SafeVLMProcessor


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What a checkpoint holds beside weights and configuration.

    Attributes:
        calibration: Temperature and thresholds; None: uncalibrated.
        training: How it was trained, as plain values.
        card: The model card; None: written from the configuration.
    """

    calibration: CheckpointCalibration | None = None
    training: Mapping[str, Any] | None = None
    card: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """What a checkpoint was read into; the adapters are put on last, when the base model was found to be the one."""

    vlm: Any
    processor: SafeVLMProcessor
    safety: SafetyModules
    metadata: Metadata
    lora: Path | None

    def add_adapters(self) -> Lora | None:
        """Puts the checkpoint's LoRA adapters on the base model; None where it has none."""
        return None if self.lora is None else load_lora(self.vlm, self.lora)


def load_parts(path: str | Path, *, vlm: Any, revision: str | None, digest: str | None, device_map: Any) -> Parts:
    """Reads a checkpoint and loads its base model as it was saved, unless one is given.

    Raises:
        HubError: The checkpoint cannot be had from the hub.
        CheckpointError: A part is missing or damaged, or the base model cannot be loaded.
    """
    folder = find_checkpoint(path, revision=revision, digest=digest)
    safety = load_modules(folder)
    config = safety.config
    if config.tower.kind != "vlm":
        raise CheckpointError(
            f"{folder}: the gate listens to {config.tower.name} ({config.tower.kind}), which is no vision-language "
            "model; load it with RiskModel.from_pretrained"
        )
    saved = folder / PROCESSOR_FOLDER
    if saved.is_dir():
        processor = SafeVLMProcessor.from_pretrained(saved)
    else:
        found = load_processor(config.tower.name, revision=config.tower.revision)
        processor = SafeVLMProcessor(found, config.num_llm_tokens)
    if vlm is None:
        vlm = load_base(config.tower, device_map=device_map)
    check_language(folder, vlm)
    lora = folder / LORA_FOLDER
    return Parts(
        vlm=vlm,
        processor=processor,
        safety=safety.to(vlm.get_input_embeddings().weight.device),
        metadata=_metadata(folder),
        lora=lora if lora.is_dir() else None,
    )


def load_base(tower: TowerConfig, *, dtype: Any = None, device_map: Any = None) -> Any:
    """Loads a vision-language model from safetensors, in eval mode and frozen; no code of its repository is run.

    Args:
        tower: Names it.
        dtype: None: as it was saved.
        device_map: As in transformers.

    Raises:
        CheckpointError: It cannot be loaded.
    """
    chosen = {name: value for name, value in (("dtype", dtype), ("device_map", device_map)) if value is not None}
    try:
        with quiet():
            model = AutoModelForImageTextToText.from_pretrained(
                tower.name, revision=tower.revision, use_safetensors=True, trust_remote_code=False, **chosen
            )
    except Exception as problem:  # the parsers of a foreign file raise anything
        raise CheckpointError(
            f"base model {tower.name}: cannot be loaded ({' '.join(str(problem).split())}); put its folder back, or "
            "pass vlm="
        ) from problem
    return model.eval().requires_grad_(False)


def save_parts(
    path: str | Path, safety: SafetyModules, processor: SafeVLMProcessor, lora: Lora | None, metadata: Metadata
) -> None:
    """Writes a checkpoint folder.

    Raises:
        CheckpointError: It cannot be written.
    """
    folders: dict[str, Callable[[Path], None]] = {PROCESSOR_FOLDER: processor.save_pretrained}
    if lora is not None:
        tower = safety.config.tower
        folders[LORA_FOLDER] = partial(lora.save, base=tower.name, revision=tower.revision)
    save_checkpoint(
        path,
        safety,
        calibration=metadata.calibration,
        training=metadata.training,
        card=metadata.card,
        folders=folders,
    )


def _metadata(folder: Path) -> Metadata:
    card, record = folder / CARD_FILE, folder / TRAINING_FILE
    try:
        training = json.loads(read_file(record)) if record.exists() else None
    except ValueError as problem:
        raise CheckpointError(f"{record}: {problem}; copy the checkpoint again") from problem
    return Metadata(
        calibration=load_calibration(folder),
        training=training,
        card=read_file(card).decode("utf-8", "replace") if card.exists() else None,
    )
