"""Training SafeVLM in front of its language model: stage 1 with the VLM frozen, stage 2 with LoRA on it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import accelerate
import peft
import torch
import transformers
from accelerate import PartialState
from torch import Tensor, nn

from safevlm_sdk.atomic import publish_folder
from safevlm_sdk.errors import DataError, RecipeError, TrainingError
from safevlm_sdk.strict import canonical_json, digest
from safevlm_sdk.version import __version__
from safevlm_training.capture_variants import CAPTURE_VERSION
from safevlm_training.checkpoint import CheckpointCalibration, checkpoint_digest
from safevlm_training.closing import closing_lines
from safevlm_training.config import SafetyConfig
from safevlm_training.data import SPLITS, Split
from safevlm_training.encode import SizeReader
from safevlm_training.fit import Labelled, class_weights, deterministic, judge, labelled
from safevlm_training.kept_weights import Trained, modules_digest, read_trained
from safevlm_training.metrics import Judged, ranking
from safevlm_training.modules import SafetyModules, SafetyOutput
from safevlm_training.plan import Plan, is_checkpoint
from safevlm_training.prepare import Dataset, data_digest, load_encoder, of_split, read_data
from safevlm_training.progress import Progress
from safevlm_training.splits import Item
from safevlm_training.thresholds import calibrate
from safevlm_training.training_card import training_card
from safevlm_training.training_record import metrics_of, training_record
from safevlm_training.vlm.collate import Collator, prompt_of
from safevlm_training.vlm.language import language_digest
from safevlm_training.vlm.objective import Objective, losses_of
from safevlm_training.vlm.processes import on_main, random_state_kept
from safevlm_training.vlm.run_state import SAFETY_PREFIX, claim_folder, load_trained
from safevlm_training.vlm.safe_vlm import SafeVLM
from safevlm_training.vlm.starting import check_start, start_model
from safevlm_training.vlm.trainer import StageTrainer, training_arguments

# Of this module and the trainer: what an earlier version kept is not gone on from.
STAGE_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """What is known before the language model is loaded.

    Attributes:
        config: Its fields for a language model are not filled in yet.
        encoder: Digest of whatever decided the cached features.
        data: Every row.
        splits: The rows of each split; validation and calibration have cached features.
    """

    config: SafetyConfig
    encoder: str
    data: Dataset
    splits: dict[Split, Labelled]


def train_stage(plan: Plan, shown: Progress) -> Path:
    """Trains a stage as a recipe with objective "risk+lm" says, and writes the checkpoint.

    Killed at any moment and started again, it goes on where it was. The epoch is chosen and the thresholds are set on
    the same view of an image, and in the same float32, as the exported gate will have. With several processes, the
    first one reads the data, judges and writes.

    Args:
        plan: Of the recipe.
        shown: Shows how far it is.

    Returns:
        The checkpoint folder.

    Raises:
        RecipeError: The tower is no vision-language model.
        DataError: Rows are bad, a split lacks a category, or no row has turns.
        TrainingError: What is kept to go on from is of another recipe or data set, or the batch cannot be shared out.
        CheckpointError: Base model or starting checkpoint cannot be loaded, or do not go together.
    """
    training_arguments(plan.recipe, plan.work / "trainer")  # also finds the other processes
    shown = shown if PartialState().is_main_process else Progress(False)
    prepared = on_main(lambda: prepare(plan, shown))
    with random_state_kept():
        model = start_model(plan, prepared.config)
        fingerprint = fingerprint_of(plan, prepared, model)
        trained = on_main(lambda: read_trained(plan.output, fingerprint))
        if trained is None:
            on_main(lambda: _try_prompts(plan, model, prepared))
            trained, model = _train(plan, prepared, model, fingerprint, shown)
        else:
            shown.say(f"the weights in {plan.output} are of this recipe: they stay, the thresholds are set anew")
            model = SafeVLM.from_pretrained(plan.output)
        on_main(lambda: _finish(plan, prepared, model, trained, shown))
    return plan.output


def prepare(plan: Plan, shown: Progress) -> Prepared:
    """Reads rows and images, and computes the features of the splits that training is judged by.

    Raises:
        RecipeError: The tower is no vision-language model.
        DataError: Rows are bad, a split lacks a category, or no row of a split that needs some has turns.
        CheckpointError: The tower cannot be loaded, or the starting checkpoint is of another one.
    """
    recipe = plan.recipe
    encoder = load_encoder(plan)
    config = encoder.config
    if config.tower.kind != "vlm":
        raise RecipeError(
            f'[model] tower {config.tower.name} is no vision-language model, but objective "risk+lm" trains in front '
            'of one; name one, or set objective = "risk" in [train]'
        )
    if plan.start is not None:
        check_start(plan.start, config, trains_safety=recipe.language.trains_safety)
    encoder.tower.to(PartialState().device)
    sizes = SizeReader(raster_max_side=config.raster_max_side)
    with encoder.open_cache(plan.cache, recipe.cache.dtype) as cache, sizes.open_cache(plan.cache) as read:
        data = read_data(plan, encoder, cache, shown, sizes=read)
    if recipe.language.lm_weight:
        _check_turns(data.items)
    weights = {source.name: source.weight for source in recipe.data}
    seen = (*data.items, *data.captures)
    splits = {split: labelled(cache, of_split(seen, split), config.labels, weights) for split in SPLITS}
    splits["train"] = mixed(splits["train"], recipe.language.safe_ratio)
    return Prepared(config=config, encoder=encoder.digest(recipe.cache.dtype), data=data, splits=splits)


def mixed(train: Labelled, safe_ratio: float | None) -> Labelled:
    """The rows with weights under which this share of each epoch is safe; None leaves them as they are."""
    if safe_ratio is None:
        return train
    safe = train.types == len(train.labels) - 1
    weights = train.weights.copy()
    weights[safe] *= safe_ratio / weights[safe].sum()
    weights[~safe] *= (1 - safe_ratio) / weights[~safe].sum()
    return replace(train, weights=weights)


class JudgedOnDevice(nn.Module):
    """Safety modules on some device, for features and outputs that lie on the CPU."""

    def __init__(self, safety: SafetyModules, device: torch.device) -> None:
        super().__init__()
        self.safety = safety.to(device)
        self.device = device

    def forward(self, features: Tensor) -> SafetyOutput:
        """Judges cached features [N, T, D]."""
        found = self.safety(features.to(self.device))
        return SafetyOutput(
            type_logits=found.type_logits.cpu(),
            level_logprobs=found.level_logprobs.cpu(),
            attention=found.attention.cpu(),
            safety_embeddings=None,
        )


def _train(
    plan: Plan, prepared: Prepared, model: SafeVLM, fingerprint: str, shown: Progress
) -> tuple[Trained, SafeVLM]:
    """Trains the model, or goes on where an earlier run was killed; gives the first process the best model."""
    recipe, folder = plan.recipe, plan.work / "trainer"
    on_main(lambda: claim_folder(folder, fingerprint))
    weights = class_weights(prepared.splits["train"], recipe.train.class_weights)
    objective = Objective(model, losses_of(recipe.train, recipe.language), weights)
    trainer = StageTrainer(
        objective=objective,
        recipe=recipe,
        folder=folder,
        train=prepared.splits["train"],
        validation=prepared.splits["validation"],
        collator=Collator(
            processor=model.processor,
            raster_max_side=prepared.config.raster_max_side,
            max_length=recipe.language.max_length,
        ),
        judge=lambda state: on_main(lambda: ranking(_judge(plan, prepared, model.config, state, "validation"))),
        progress=shown,
    )
    on_cpu = trainer.args.device.type == "cpu"  # a GPU has no deterministic version of some operations
    with deterministic() if on_cpu else nullcontext():
        best = trainer.fit()
    is_main = PartialState().is_main_process
    if trainer.shards_weights and is_main:  # what was trained lies in pieces; the best epoch's file is whole
        model = start_model(plan, prepared.config)
        objective = Objective(model, objective.losses, weights)
    if is_main or not trainer.shards_weights:
        load_trained(objective, best)
    tower = model.config.tower
    trained = Trained(
        fingerprint=fingerprint,
        best_epoch=trainer.best_epoch,
        history=trainer.run.history,
        threads=torch.get_num_threads(),
        tower={"name": recipe.model.tower, "tap": tower.tap, "digest": tower.digest},
    )
    return trained, model


def _judge(plan: Plan, prepared: Prepared, config: SafetyConfig, state: Mapping[str, Tensor], split: Split) -> Judged:
    """What trained safety modules say of a split's cached features."""
    safety = SafetyModules(config)
    found = {name: value for name, value in state.items() if name.startswith(SAFETY_PREFIX)}
    safety.load_state_dict({name.removeprefix(SAFETY_PREFIX): value for name, value in found.items()})
    on_device = JudgedOnDevice(safety, PartialState().device)
    return judge(on_device, prepared.splits[split], plan.recipe.train.batch_size)


def fingerprint_of(plan: Plan, prepared: Prepared, model: SafeVLM) -> str:
    """`sha256:…` of whatever the trained weights depend on, but the number of processes and threads."""
    recipe, items = plan.recipe, [item for item in prepared.data.items if item.split != "calibration"]
    asked = {name: getattr(recipe.language, name) for name in recipe.language.__struct_fields__}
    parts = {
        "model": recipe.model,
        "sources": [[source.name, source.variants, source.weight] for source in recipe.data],
        "train": recipe.train,
        "lm": {name: value for name, value in asked.items() if name not in ("start", "save_steps")},
        "lora": recipe.adapters if recipe.language.stage == 2 else None,
        "start": None if plan.start is None else checkpoint_digest(plan.start),
        "data": data_digest(items),
        "turns": digest(canonical_json([[[turn.role, turn.text] for turn in one.example.turns] for one in items])),
        "encoder": prepared.encoder,
        "language_model": language_digest(model.vlm),
        "captures": CAPTURE_VERSION if prepared.data.captures else None,
        "stage": STAGE_VERSION,
        "versions": [str(torch.__version__), transformers.__version__, peft.__version__, accelerate.__version__],
        "safevlm_sdk": __version__,
    }
    return digest(canonical_json(parts))


def _check_turns(items: Sequence[Item]) -> None:
    counts = {split: sum(bool(item.example.turns) for item in of_split(items, split)) for split in SPLITS[:2]}
    empty = [split for split, count in counts.items() if not count]
    if empty:
        raise DataError(
            f"no row has turns in: {', '.join(empty)}. A language model learns from answers, and the epoch is chosen "
            "by them; give rows `question` and `answer`, or set lm_weight = 0 in [lm] to train without"
        )


def _try_prompts(plan: Plan, model: SafeVLM, prepared: Prepared) -> None:
    """Writes every conversation once, since a run may be hours old before it meets a bad one."""
    if plan.recipe.language.lm_weight:
        for item in prepared.data.items:
            if item.split != "calibration":
                prompt_of(model.processor, item)


def _finish(plan: Plan, prepared: Prepared, model: SafeVLM, trained: Trained, shown: Progress) -> None:
    """Judges, calibrates and writes the checkpoint; what was kept to go on from is no longer needed."""
    state = {f"{SAFETY_PREFIX}{name}": value for name, value in model.safety.state_dict().items()}
    judged = {split: _judge(plan, prepared, model.config, state, split) for split in SPLITS[1:]}
    bounds = plan.recipe.calibration.bounds
    calibration = calibrate(judged["validation"], judged["calibration"], bounds)
    record = training_record(plan, prepared.data, prepared.encoder, trained)
    record |= {
        "lm": plan.recipe.language,
        "lora": plan.recipe.adapters if plan.recipe.language.stage == 2 else None,
        "language_model": language_digest(model.vlm),
        "weights": modules_digest(model.safety),
        "rows_with_turns": sum(bool(item.example.turns) for item in prepared.data.items),
        "start": None if plan.start is None else checkpoint_digest(plan.start),
        "metrics": metrics_of(judged, calibration),
    }
    record["versions"] |= {"transformers": transformers.__version__, "peft": peft.__version__}
    _publish(plan, model, calibration, record)
    shutil.rmtree(plan.work / "trainer", ignore_errors=True)
    for line in closing_lines(judged["calibration"], calibration, bounds):
        shown.say(line)


def _publish(plan: Plan, model: SafeVLM, calibration: CheckpointCalibration, record: dict[str, Any]) -> None:
    card = training_card(record | {"calibration": calibration})

    def fill(folder: Path) -> None:
        model.save_pretrained(folder, calibration=calibration, training=record, card=card)

    publish_folder(plan.output, fill, replaceable=is_checkpoint, error=TrainingError)
