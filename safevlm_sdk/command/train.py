"""`safevlm train`: from a recipe to a checkpoint."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from safevlm_sdk.command.extras import needs


def train(recipe: Annotated[Path, typer.Argument(help="The recipe, a TOML file.")]) -> None:
    """Train SafeVLM's safety modules as a recipe says; an interrupted run goes on where it stopped."""
    needs("train", "torch", "transformers", "safetensors", "scipy")
    checkpoint = import_module("safevlm_training.train").train(recipe)
    typer.echo(f"checkpoint: {checkpoint}")
