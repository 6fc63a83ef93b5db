"""A training recipe: one strict TOML file that says everything a training run depends on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from safevlm_sdk.atomic import require_publishable
from safevlm_sdk.errors import RecipeError
from safevlm_sdk.strict import from_toml
from safevlm_sdk.taxonomy import SAFE, Taxonomy, load_taxonomy
from safevlm_training.checkpoint import CHECKPOINT_FILES, TRAINING_FILE
from safevlm_training.config import CONFIG_FILE, tap_layer


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The base of every part of a recipe."""


class ModelRecipe(_Strict, frozen=True):
    """What is trained; a size that is not given is the preset's.

    Attributes:
        tower: "efficientnet-lite0", a Hugging Face id, or a folder (relative to the recipe).
        tap: "hidden:<layer>".
        coverage: Covered risk to what is claimed for it, in the order of the logits.
        preset: Of `SafetyConfig`.
        revision: Of the tower's Hugging Face repository.
        taxonomy: A shipped taxonomy, or a .toml file (relative to the recipe).
        image_size: Side in pixels, where the tower leaves a choice.
        raster_max_side: Longer side, in pixels, to which images are shrunk after decoding.
        width: Of projector, tokens and head.
        num_queries: Of the cross-attention.
        num_heads: Of the cross-attention.
        num_tokens: Learned tokens beside the projected features.
    """

    tower: str
    tap: str
    coverage: dict[str, str]
    preset: Literal["edge", "paper"] = "edge"
    revision: str | None = None
    taxonomy: str = "safevlm"
    image_size: int | None = None
    raster_max_side: int | None = None
    width: int | None = None
    num_queries: int | None = None
    num_heads: int | None = None
    num_tokens: int | None = None

    def __post_init__(self) -> None:
        tap_layer(self.tap)
        if not self.coverage or SAFE in self.coverage:
            raise ValueError("[model.coverage] names at least one risk, and never `safe`")
        for size in ("image_size", "raster_max_side", *_SIZES):
            if getattr(self, size) is not None and getattr(self, size) < 1:
                raise ValueError(f"{size} is {getattr(self, size)}; it must be at least 1")

    @property
    def changes(self) -> dict[str, Any]:
        """The fields of `SafetyConfig` that differ from the preset."""
        named = ("raster_max_side", *_SIZES)
        return {name: getattr(self, name) for name in named if getattr(self, name) is not None}


_SIZES = ("width", "num_queries", "num_heads", "num_tokens")


class Fractions(_Strict, frozen=True):
    """How the groups of a source are shared out, where rows do not say their split themselves."""

    train: float = 0.7
    validation: float = 0.15
    calibration: float = 0.15

    def __post_init__(self) -> None:
        parts = (self.train, self.validation, self.calibration)
        if min(parts) < 0.0 or not abs(sum(parts) - 1.0) < 1e-9:
            raise ValueError(f"splits are {parts}; train, validation and calibration must add up to 1")


class SourceRecipe(_Strict, frozen=True):
    """One source of labelled images.

    Attributes:
        name: For counts and reports; unique.
        kind: "folder" is ROOT/<category>/[<level>/]<images>, "jsonl" is one JSON object per line.
        category: Of every image below the folder, however deep, at its usual level; only for "folder".
        path: Of the folder or file, relative to the recipe.
        license: SPDX expression, or a sentence, of the images.
        splits: Shares of the splits.
    """

    name: str
    kind: Literal["folder", "jsonl"]
    path: str
    license: str
    category: str | None = None
    splits: Fractions = Fractions()

    def __post_init__(self) -> None:
        if self.category is not None and self.kind != "folder":
            raise ValueError(
                f'source {self.name!r}: `category` goes with kind = "folder"; the rows of JSON lines say theirs'
            )
        if not self.name.strip() or "/" in self.name or not self.license.strip():
            raise ValueError(f"source {self.name!r}: give a name without a slash, and the licence of the images")


class EarlyStopping(_Strict, frozen=True):
    """When to stop; the best epoch is kept in any case (a tie goes to the lower loss, then to the earlier epoch)."""

    metric: Literal["auroc", "loss"] = "auroc"
    patience: int = 5


class TrainRecipe(_Strict, frozen=True):
    """How it is trained.

    Attributes:
        objective: "risk" trains the safety modules on cached features, without a language model.
        epochs: At most.
        batch_size: Images per step.
        lr: Peak learning rate of AdamW.
        weight_decay: Of AdamW.
        warmup: Share of all steps in which the learning rate rises; it then falls along a cosine.
        level_weight: Of the level loss beside the type loss.
        class_weights: "balanced" weighs each category by the inverse of its frequency.
        label_smoothing: Of the type loss.
        seed: Of the weights, the order and the splits.
        early_stopping: When to stop.
    """

    objective: Literal["risk"] = "risk"
    epochs: int = 20
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    level_weight: float = 1.0
    class_weights: Literal["balanced", "none"] = "balanced"
    label_smoothing: float = 0.0
    seed: int = 0
    early_stopping: EarlyStopping = EarlyStopping()

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.early_stopping.patience) < 1 or not 0 <= self.seed < 2**63:
            raise ValueError("epochs, batch_size and patience must be at least 1; seed at least 0 and below 2**63")
        if not (0 < self.lr < 10 and 0 <= self.weight_decay < 10 and 0 <= self.level_weight < 1000):
            raise ValueError("lr must lie between 0 and 10; weight_decay and level_weight must not be negative")
        if not (0 <= self.warmup < 1 and 0 <= self.label_smoothing < 1):
            raise ValueError("warmup and label_smoothing are shares: at least 0 and below 1")


class CalibrationRecipe(_Strict, frozen=True):
    """How the first thresholds are set.

    Attributes:
        flag_at_most: Largest share of the safe groups of the calibration split that may be flagged.
        sources: Names of the sources whose safe images count; none named: all. Name sources of real photographs:
            generated images flatter.
    """

    flag_at_most: float = 0.01
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 <= self.flag_at_most < 1.0:
            raise ValueError(f"flag_at_most is {self.flag_at_most}; it is a share: at least 0 and below 1")


class CacheRecipe(_Strict, frozen=True):
    """Where features are kept; several recipes may share a cache. Default path: inside the work folder."""

    path: str | None = None
    dtype: Literal["float16", "float32"] = "float16"


class OutputRecipe(_Strict, frozen=True):
    """Where the checkpoint goes (relative to the recipe), its name for people, and the licence of the weights."""

    path: str
    name: str
    license: str


class Recipe(_Strict, frozen=True):
    """The whole recipe; `bad_rows = "skip"` trains on what is left when rows are bad."""

    schema: Literal[1]
    model: ModelRecipe
    data: tuple[SourceRecipe, ...]
    output: OutputRecipe
    train: TrainRecipe = TrainRecipe()
    calibration: CalibrationRecipe = CalibrationRecipe()
    cache: CacheRecipe = CacheRecipe()
    bad_rows: Literal["error", "skip"] = "error"

    def __post_init__(self) -> None:
        names = [source.name for source in self.data]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"[[data]] names are {names}; give at least one source, and each its own name")
        unknown = set(self.calibration.sources) - set(names)
        if unknown:
            raise ValueError(f"calibration.sources names {sorted(unknown)}; the sources are {names}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A recipe whose every reference was looked at.

    Attributes:
        recipe: As written.
        folder: That of the recipe; relative paths start here.
        taxonomy: Loaded.
        tower: Name or absolute folder of the tower.
        sources: Path of each source, in the order of the recipe.
        output: The checkpoint folder.
        work: Folder beside the output for what a training run keeps to go on from.
        cache: Folder of the feature caches.
    """

    recipe: Recipe
    folder: Path
    taxonomy: Taxonomy
    tower: str
    sources: tuple[Path, ...]
    output: Path
    work: Path
    cache: Path

    @property
    def bad_rows(self) -> Path:
        """Where bad rows are listed."""
        return self.output.with_name(self.output.name + ".bad_rows.jsonl")


def load_recipe(path: str | Path) -> Recipe:
    """Reads a recipe from TOML.

    Raises:
        RecipeError: It cannot be read or is not valid; the message names the field.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as problem:
        raise RecipeError(f"{path}: cannot be read ({problem.strerror}); give the path of a recipe") from problem
    return from_toml(text, Recipe, error=RecipeError, where=str(path))


def plan_recipe(path: str | Path) -> Plan:
    """Reads a recipe and checks whatever can be checked before work starts.

    Raises:
        RecipeError: A source is missing, a risk is not in the taxonomy, or the output is in the way or among images.
        TaxonomyError: The taxonomy cannot be read.
    """
    recipe = load_recipe(path)
    folder = Path(path).resolve().parent
    taxonomy = load_taxonomy(_taxonomy(recipe.model.taxonomy, folder))
    unknown = [risk for risk in recipe.model.coverage if risk not in taxonomy.categories]
    if unknown:
        known = ", ".join(taxonomy.categories)
        raise RecipeError(f"{path}: [model.coverage] names {unknown}; taxonomy {taxonomy.name!r} has: {known}")
    sources = tuple(Path(os.path.normpath(folder / source.path)) for source in recipe.data)
    for source, place in zip(recipe.data, sources, strict=True):
        if not (place.is_dir() if source.kind == "folder" else place.is_file()):
            raise RecipeError(f"{path}: source {source.name!r} has no {source.kind} at {place}; correct its path")
    output = (folder / recipe.output.path).resolve()
    work = output.with_name(output.name + ".work")
    cache = work / "features" if recipe.cache.path is None else folder / recipe.cache.path
    written = {"[output] path": output, "the work folder": work, "[cache] path": cache.resolve()}
    for source, place in zip(recipe.data, sources, strict=True):
        _keep_apart(written, output, source, place.resolve(), str(path))
    require_publishable(output, is_checkpoint, error=RecipeError)
    return Plan(
        recipe=recipe,
        folder=folder,
        taxonomy=taxonomy,
        tower=_tower(recipe.model.tower, folder),
        sources=sources,
        output=output,
        work=work,
        cache=cache,
    )


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is a trained checkpoint and holds nothing else, so that training may replace it."""
    found = {entry.name for entry in folder.iterdir() if entry.is_file()}
    return {CONFIG_FILE, TRAINING_FILE} <= found <= CHECKPOINT_FILES and len(found) == len(os.listdir(folder))


def _keep_apart(written: Mapping[str, Path], output: Path, source: SourceRecipe, place: Path, where: str) -> None:
    """Refuses to write among the images of a source, or to replace them."""
    for name, target in written.items():
        if source.kind == "folder" and target.is_relative_to(place):
            raise RecipeError(
                f"{where}: {name} is {target}, which lies in source {source.name!r} at {place}; name another folder"
            )
    if place.is_relative_to(output):
        raise RecipeError(
            f"{where}: [output] path is {output}, which holds source {source.name!r} at {place}; name another folder"
        )


def _taxonomy(name: str, folder: Path) -> str | Path:
    return folder / name if name.endswith(".toml") else name


def _tower(name: str, folder: Path) -> str:
    return str((folder / name).resolve()) if (folder / name).is_dir() else name
