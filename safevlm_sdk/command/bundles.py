"""`safevlm verify` and `safevlm inspect`."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer


def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    digest: Annotated[str | None, typer.Option(help="The digest it must have (sha256:…).")] = None,
) -> None:
    """Check every file's hash, every graph's content, and that this machine reproduces the golden outputs."""
    typer.echo(import_module("safevlm_runtime.verify").verify_bundle(bundle, digest=digest).render())


def inspect(bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")]) -> None:
    """Print what a bundle says of itself, as JSON."""
    verify_module = import_module("safevlm_runtime.verify")
    described = verify_module.describe(import_module("safevlm_runtime.reader").read_bundle(bundle))
    typer.echo(json.dumps(described, indent=2))
