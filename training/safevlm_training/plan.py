"""A recipe, and everything that it names, looked at before work starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from safevlm_sdk.atomic import require_publishable
from safevlm_sdk.errors import RecipeError
from safevlm_sdk.taxonomy import Taxonomy, load_taxonomy
from safevlm_training.checkpoint import TRAINING_FILE, holds_only_a_checkpoint
from safevlm_training.config import CONFIG_FILE
from safevlm_training.published_sets.published import check_source
from safevlm_training.recipe import Recipe, SourceRecipe, load_recipe


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
        start: The checkpoint that stage 1 or 2 starts from.
    """

    recipe: Recipe
    folder: Path
    taxonomy: Taxonomy
    tower: str
    sources: tuple[Path, ...]
    output: Path
    work: Path
    cache: Path
    start: Path | None = None

    @property
    def bad_rows(self) -> Path:
        """Where bad rows are listed."""
        return self.output.with_name(self.output.name + ".bad_rows.jsonl")


def plan_recipe(path: str | Path, *, seed: int | None = None, out: str | Path | None = None) -> Plan:
    """Reads a recipe and checks whatever can be checked before work starts.

    Args:
        path: A TOML file.
        seed: Replaces `train.seed`; the splits stay as they are.
        out: Replaces the output folder, relative to where the process is; a cache that the recipe gives no path
            stays beside the recipe's own output.

    Raises:
        RecipeError: A source is missing, a risk is not in the taxonomy, or the output is in the way or among images.
        TaxonomyError: The taxonomy cannot be read.
        DataError: A published set was not acknowledged, has no images to learn from, or its mapping is not valid.
    """
    recipe = _with_seed(load_recipe(path), seed)
    folder = Path(path).resolve().parent
    taxonomy = load_taxonomy(_taxonomy(recipe.model.taxonomy, folder))
    unknown = [risk for risk in recipe.model.coverage if risk not in taxonomy.categories]
    if unknown:
        known = ", ".join(taxonomy.categories)
        raise RecipeError(
            f"{path}: [model.coverage] names {', '.join(unknown)}; taxonomy {taxonomy.name!r} has: {known}. For "
            'categories of your own write a taxonomy and name it in [model], as taxonomy = "own.toml" (docs/data.md, '
            '"Your own categories")'
        )
    sources = tuple(Path(os.path.normpath(folder / source.path)) for source in recipe.data)
    for source, place in zip(recipe.data, sources, strict=True):
        if not _is_there(source, place):
            raise RecipeError(f"{path}: source {source.name!r} has no {source.kind} at {place}; correct its path")
        check_source(source, folder)
    named = (folder / recipe.output.path).resolve()
    output = named if out is None else Path(out).resolve()
    work = _work(output)
    cache = _work(named) / "features" if recipe.cache.path is None else folder / recipe.cache.path
    written = {"[output] path": output, "the work folder": work, "[cache] path": cache.resolve()}
    for source, place in zip(recipe.data, sources, strict=True):
        _keep_apart(written, output, source, place.resolve(), str(path))
    require_publishable(output, is_checkpoint, error=RecipeError)
    start = _start(recipe, folder, output, str(path))
    return Plan(
        recipe=recipe,
        folder=folder,
        taxonomy=taxonomy,
        tower=_tower(recipe.model.tower, folder),
        sources=sources,
        output=output,
        work=work,
        cache=cache,
        start=start,
    )


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is a trained checkpoint and holds nothing else, so that training may replace it."""
    needed = (CONFIG_FILE, TRAINING_FILE)
    return all((folder / name).is_file() for name in needed) and holds_only_a_checkpoint(folder)


def _is_there(source: SourceRecipe, place: Path) -> bool:
    if source.kind == "folder":
        return place.is_dir()
    return place.is_file() if source.kind == "jsonl" else place.exists()


def _keep_apart(written: Mapping[str, Path], output: Path, source: SourceRecipe, place: Path, where: str) -> None:
    """Refuses to write among the images of a source, or to replace them."""
    for name, target in written.items():
        if place.is_dir() and target.is_relative_to(place):
            raise RecipeError(
                f"{where}: {name} is {target}, which lies in source {source.name!r} at {place}; name another folder"
            )
    if place.is_relative_to(output):
        raise RecipeError(
            f"{where}: [output] path is {output}, which holds source {source.name!r} at {place}; name another folder"
        )


def _with_seed(recipe: Recipe, seed: int | None) -> Recipe:
    if seed is None:
        return recipe
    try:
        changed = msgspec.structs.replace(recipe.train, seed=seed)
    except ValueError as problem:
        raise RecipeError(f"seed {seed}: {problem}") from problem
    return msgspec.structs.replace(recipe, train=changed)


def _start(recipe: Recipe, folder: Path, output: Path, where: str) -> Path | None:
    if recipe.lm is None or recipe.lm.start is None:
        return None
    start = Path(os.path.normpath(folder / recipe.lm.start))
    if not (start / CONFIG_FILE).is_file():
        raise RecipeError(
            f"{where}: [lm] start is {start}, which is no checkpoint; train it first, or correct the path"
        )
    if start.resolve() == output:
        raise RecipeError(f"{where}: [output] path is the checkpoint that [lm] starts from; name another folder")
    return start


def _work(output: Path) -> Path:
    return output.with_name(output.name + ".work")


def _taxonomy(name: str, folder: Path) -> str | Path:
    return folder / name if name.endswith(".toml") else name


def _tower(name: str, folder: Path) -> str:
    return str((folder / name).resolve()) if (folder / name).is_dir() else name
