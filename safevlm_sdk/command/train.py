"""`safevlm train`: from a recipe to a checkpoint."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from safevlm_sdk.command.extras import needs


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a TOML file.")],
    seed: Annotated[
        int | None, typer.Option(help="Instead of the recipe's train.seed; the splits stay the same.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the checkpoint here instead of where the recipe says.")
    ] = None,
) -> None:
    """Train SafeVLM's safety modules as a recipe says; an interrupted run goes on where it stopped."""
    needs("train", "torch", "transformers", "safetensors", "scipy")
    checkpoint = import_module("safevlm_training.train").train(recipe, seed=seed, out=out)
    typer.echo(f"checkpoint: {checkpoint}")
    import_module("safevlm_training.leaving").leave()
