"""From a recipe to a calibrated checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from safevlm_sdk.atomic import publish_folder
from safevlm_sdk.errors import TrainingError
from safevlm_sdk.strict import canonical_json, digest
from safevlm_sdk.version import __version__
from safevlm_training.capture_variants import CAPTURE_VERSION
from safevlm_training.checkpoint import CheckpointCalibration
from safevlm_training.closing import closing_lines
from safevlm_training.data import SPLITS
from safevlm_training.encode import Encoder
from safevlm_training.fit import State, fit, judge, labelled
from safevlm_training.kept_weights import Trained, modules_digest, take_weights
from safevlm_training.plan import Plan, is_checkpoint, plan_recipe
from safevlm_training.prepare import Dataset, data_digest, load_encoder, new_modules, of_split, read_data
from safevlm_training.progress import Progress
from safevlm_training.recipe import Recipe
from safevlm_training.risk_model import RiskModel
from safevlm_training.thresholds import calibrate
from safevlm_training.trainable import Trainable
from safevlm_training.training_card import training_card
from safevlm_training.training_record import metrics_of, training_record

# Of `fit` and `Trainable`: weights and states of another version are not kept.
TRAINING_VERSION = 2


def train(
    recipe_path: str | Path, *, seed: int | None = None, out: str | Path | None = None, progress: bool = True
) -> Path:
    """Trains as a recipe says and writes the checkpoint.

    Objective "risk" trains the safety modules, and the tower's last blocks; "risk+lm" trains the safety modules, or
    LoRA, in front of the tower's language model.

    Killed at any moment and started again on as many threads, it goes on where it was and ends with the same bytes.

    Args:
        recipe_path: A TOML file.
        seed: Replaces the recipe's `train.seed`: other weights and another order, the same splits.
        out: Replaces the recipe's output folder.
        progress: Print each epoch to standard error, and show bars there when it is a terminal.

    Returns:
        The checkpoint folder.

    Raises:
        RecipeError: The recipe is not valid.
        DataError: Rows are bad, or a split lacks a category.
        TrainingError: A saved state belongs to another recipe or data set, or the cache is in use.
        CheckpointError: The tower cannot be loaded, or does not go with the recipe's `start`.
    """
    plan = plan_recipe(recipe_path, seed=seed, out=out)
    recipe, shown = plan.recipe, Progress(progress)
    if recipe.train.objective == "risk+lm":
        from safevlm_training.vlm.stages import train_stage

        return train_stage(plan, shown)
    encoder = load_encoder(plan)
    with encoder.open_cache(plan.cache, recipe.cache.dtype) as cache:
        data = read_data(plan, encoder, cache, shown)
        cache.release()  # so that other seeds may train beside this one
        seen = (*data.items, *data.captures)
        weights = {source.name: source.weight for source in recipe.data}
        splits = {split: labelled(cache, of_split(seen, split), encoder.config.labels, weights) for split in SPLITS}
        modules = new_modules(encoder.config, recipe.train.seed)
        model = Trainable(encoder.tower, modules, recipe.train.unfreeze_last)
        fingerprint = fingerprint_of(recipe, data, encoder)
        trained = take_weights(plan.output, fingerprint, modules, encoder.tower)
        fresh = trained is None
        if trained is None:
            state = fit(
                model,
                splits["train"],
                splits["validation"],
                recipe.train,
                state_file=plan.work / "state.pt",
                fingerprint=fingerprint,
                progress=shown,
            )
            trained = _trained(plan, state, encoder)
        else:
            shown.say(f"the weights in {plan.output} are of this recipe: they stay, the thresholds are set anew")
        judged = {split: judge(model, splits[split], recipe.train.batch_size) for split in SPLITS[1:]}
        calibration = calibrate(judged["validation"], judged["calibration"], recipe.calibration.bounds)
    record = training_record(plan, data, encoder.digest(recipe.cache.dtype), trained)
    record |= {"weights": modules_digest(modules), "metrics": metrics_of(judged, calibration)}
    _publish(plan, RiskModel(encoder.tower, modules), calibration, record)
    if fresh:
        (plan.work / "state.pt").unlink(missing_ok=True)
    for line in closing_lines(judged["calibration"], calibration, recipe.calibration.bounds):
        shown.say(line)
    return plan.output


def fingerprint_of(recipe: Recipe, data: Dataset, encoder: Encoder) -> str:
    """`sha256:…` of whatever the trained weights depend on; images of the calibration split set thresholds alone."""
    learned = [item for item in data.items if item.split != "calibration"]
    parts = {
        "model": recipe.model,
        "sources": [[source.name, source.variants, source.weight] for source in recipe.data],
        "train": recipe.train,
        "data": data_digest(learned),
        "encoder": encoder.digest(recipe.cache.dtype),
        "captures": CAPTURE_VERSION if data.captures else None,
        "training": TRAINING_VERSION,
        "torch": str(torch.__version__),
        "safevlm_sdk": __version__,
    }
    return digest(canonical_json(parts))


def _trained(plan: Plan, state: State, encoder: Encoder) -> Trained:
    """What training.json says of fresh weights."""
    tower = encoder.config.tower
    tuned = {"tuned_digest": encoder.tower.digest} if encoder.unfreeze_last else {}
    return Trained(
        fingerprint=state.fingerprint,
        best_epoch=state.best_epoch,
        history=state.history,
        threads=torch.get_num_threads(),  # another number sums in another order, and gives other last digits
        tower={"name": plan.recipe.model.tower, "tap": tower.tap, "digest": tower.digest} | tuned,
    )


def _publish(plan: Plan, model: RiskModel, calibration: CheckpointCalibration, record: dict[str, Any]) -> None:
    card = training_card(record | {"calibration": calibration})

    def fill(folder: Path) -> None:
        model.save_pretrained(folder, calibration=calibration, training=record, card=card)

    publish_folder(plan.output, fill, replaceable=is_checkpoint, error=TrainingError)
