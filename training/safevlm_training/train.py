"""From a recipe to a calibrated checkpoint."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from safevlm_sdk.atomic import publish_folder
from safevlm_sdk.errors import RecipeError, TrainingError
from safevlm_sdk.strict import canonical_json, digest
from safevlm_sdk.version import __version__
from safevlm_training.cache import FeatureCache
from safevlm_training.capture_variants import CAPTURE_VERSION
from safevlm_training.checkpoint import CheckpointCalibration
from safevlm_training.config import SafetyConfig, edge_config, paper_config
from safevlm_training.data import SPLITS, BadRow, Labels, Split, check_splits, refuse, write_bad_rows
from safevlm_training.encode import Encoder, fill_cache, hash_images, row_key
from safevlm_training.fit import State, fit, judge, labelled
from safevlm_training.kept_weights import Trained, take_weights
from safevlm_training.metrics import Judged, evaluate, flag_rates
from safevlm_training.modules import SafetyModules
from safevlm_training.plan import Plan, is_checkpoint, plan_recipe
from safevlm_training.progress import Progress
from safevlm_training.readers import read_sources
from safevlm_training.recipe import Recipe
from safevlm_training.risk_model import RiskModel
from safevlm_training.splits import Item, assign, invented_captures
from safevlm_training.thresholds import calibrate, score_images
from safevlm_training.towers.load import describe_tower
from safevlm_training.towers.tower import check_tail
from safevlm_training.trainable import Trainable
from safevlm_training.training_card import training_card

# Of `fit` and `Trainable`: weights and states of another version are not kept.
TRAINING_VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Images whose features are cached, their invented captures, and the rows that were left out."""

    items: tuple[Item, ...]
    captures: tuple[Item, ...]
    bad: tuple[BadRow, ...]


def train(
    recipe_path: str | Path, *, seed: int | None = None, out: str | Path | None = None, progress: bool = True
) -> Path:
    """Trains the safety modules, and the tower's last blocks, as a recipe says and writes the checkpoint.

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
        CheckpointError: The tower cannot be loaded.
    """
    plan = plan_recipe(recipe_path, seed=seed, out=out)
    recipe, shown = plan.recipe, Progress(progress)
    encoder = load_encoder(plan)
    with encoder.open_cache(plan.cache, recipe.cache.dtype) as cache:
        data = read_data(plan, encoder, cache, shown)
        cache.release()  # so that other seeds may train beside this one
        seen = (*data.items, *data.captures)
        weights = {source.name: source.weight for source in recipe.data}
        splits = {split: labelled(cache, _of(seen, split), encoder.config.labels, weights) for split in SPLITS}
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
    record = _record(plan, data, encoder, trained) | {"metrics": _metrics(judged, calibration)}
    _publish(plan, RiskModel(encoder.tower, modules), calibration, record)
    if fresh:
        (plan.work / "state.pt").unlink(missing_ok=True)
    return plan.output


def load_encoder(plan: Plan) -> Encoder:
    """The recipe's tower, and the configuration of what is trained on it.

    Raises:
        CheckpointError: The tower cannot be loaded, or has fewer blocks than shall be tuned.
        RecipeError: The sizes do not fit together.
    """
    model, unfreeze_last = plan.recipe.model, plan.recipe.train.unfreeze_last
    tower, described, preprocessing = describe_tower(
        plan.tower, model.tap, revision=model.revision, image_size=model.image_size
    )
    check_tail(tower, unfreeze_last, (preprocessing.height, preprocessing.width))
    build = edge_config if model.preset == "edge" else paper_config
    try:
        config = build(
            tower=described,
            grid=tower.grid,
            feature_width=tower.feature_width,
            taxonomy=plan.taxonomy,
            coverage=model.coverage,
            preprocessing=preprocessing,
            **model.changes,
        )
    except ValueError as problem:
        raise RecipeError(f"[model]: {problem}") from problem
    return Encoder(tower=tower, config=config, unfreeze_last=unfreeze_last)


def read_data(plan: Plan, encoder: Encoder, cache: FeatureCache, progress: Progress) -> Dataset:
    """Reads every row, shares the images out and fills the cache.

    Bad rows are refused in two steps, since computing features may take hours: first whatever rows and files show,
    then the images that cannot be decoded.

    Raises:
        DataError: Rows are bad and the recipe does not skip them, or a split lacks a category.
    """
    recipe = plan.recipe
    labels = Labels(taxonomy=plan.taxonomy, covered=tuple(recipe.model.coverage))
    read, bad = read_sources(recipe.data, plan.sources, labels)
    examples, images, unreadable = hash_images(cache, read, progress)
    fractions = {source.name: source.splits for source in recipe.data}
    items, contradictory = assign(examples, images, fractions, recipe.train.split_seed)
    bad += unreadable + contradictory
    _settle(plan, bad)
    _check(plan, items, labels)
    captures = invented_captures(items, {source.name: source.variants for source in recipe.data})
    undecodable = fill_cache(cache, encoder, (*items, *captures), progress)
    bad += undecodable
    _settle(plan, bad)
    items, captures = (tuple(one for one in some if row_key(one) in cache) for some in (items, captures))
    _check(plan, items, labels)
    return Dataset(items=items, captures=captures, bad=bad)


def new_modules(config: SafetyConfig, seed: int) -> SafetyModules:
    """Modules with weights drawn from `seed`; the caller's random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SafetyModules(config)


def fingerprint_of(recipe: Recipe, data: Dataset, encoder: Encoder) -> str:
    """`sha256:…` of whatever the trained weights depend on."""
    parts = {
        "model": recipe.model,
        "sources": [[source.name, source.variants, source.weight] for source in recipe.data],
        "train": recipe.train,
        "data": data_digest(data.items),
        "encoder": encoder.digest(recipe.cache.dtype),
        "captures": CAPTURE_VERSION if data.captures else None,
        "training": TRAINING_VERSION,
        "torch": str(torch.__version__),
        "safevlm_sdk": __version__,
    }
    return digest(canonical_json(parts))


def data_digest(items: Sequence[Item]) -> str:
    """`sha256:…` of images, labels, groups and splits, in order; where the files lie does not count."""
    rows = [[i.image, i.example.category, i.example.level, i.example.source, i.group, i.split] for i in items]
    return digest(canonical_json(rows))


def _of(items: Sequence[Item], split: Split) -> list[Item]:
    return [item for item in items if item.split == split]


def _settle(plan: Plan, bad: Sequence[BadRow]) -> None:
    write_bad_rows(plan.bad_rows, bad)
    if plan.recipe.bad_rows == "error":
        refuse(bad, plan.bad_rows)


def _check(plan: Plan, items: Sequence[Item], labels: Labels) -> None:
    present = ((item.split, item.example.category, item.example.origin) for item in items)
    check_splits(present, labels, [bound.sources for bound in plan.recipe.calibration.bounds])


def _metrics(judged: dict[Split, Judged], calibration: CheckpointCalibration) -> dict[str, Any]:
    """Per split: what can be said without thresholds, and what the thresholds do."""
    metrics: dict[str, Any] = {}
    for split, images in judged.items():
        scores = score_images(images, calibration.calibration.temperature)
        flagged = scores.flagged(images.labels, calibration.thresholds)
        metrics[split] = evaluate(images) | {"at_thresholds": flag_rates(images, flagged)}
    return metrics


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


def _record(plan: Plan, data: Dataset, encoder: Encoder, trained: Trained) -> dict[str, Any]:
    """The content of training.json but the metrics; no times and places, so that equal runs give equal bytes."""
    return {
        "schema_version": 1,
        "fingerprint": trained.fingerprint,
        "name": plan.recipe.output.name,
        "license": plan.recipe.output.license,
        "recipe": plan.recipe,
        "seed": plan.recipe.train.seed,
        "tower": trained.tower,
        "uncovered": [name for name in plan.taxonomy.categories if name not in plan.recipe.model.coverage],
        "encoder": encoder.digest(plan.recipe.cache.dtype),
        "data": {
            "digest": data_digest(data.items),
            "bad_rows_left_out": len(data.bad),
            "invented_captures": len(data.captures),
            "sources": [
                {"name": source.name, "license": source.license}
                | _counts([item for item in data.items if item.example.origin == source.name])
                for source in plan.recipe.data
            ],
        },
        "best_epoch": trained.best_epoch,
        "history": trained.history,
        "threads": trained.threads,
        "versions": {
            "safevlm_sdk": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
    }


def _counts(items: Sequence[Item]) -> dict[str, Any]:
    return {
        "digest": data_digest(items),
        "images": len(items),
        "groups": len({item.group for item in items}),
        "splits": {split: dict(Counter(item.example.category for item in _of(items, split))) for split in SPLITS},
    }


def _publish(plan: Plan, model: RiskModel, calibration: CheckpointCalibration, record: dict[str, Any]) -> None:
    card = training_card(record | {"calibration": calibration})

    def fill(folder: Path) -> None:
        model.save_pretrained(folder, calibration=calibration, training=record, card=card)

    publish_folder(plan.output, fill, replaceable=is_checkpoint, error=TrainingError)
