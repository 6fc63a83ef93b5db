"""`safevlm export`, also installed as `safevlm-export`: from a checkpoint to a bundle."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from safevlm_sdk.command.extras import needs


def export(
    checkpoint: Annotated[Path, typer.Argument(help="The SafeVLM checkpoint's folder.")],
    out: Annotated[Path, typer.Argument(help="The bundle's folder; an older bundle there is replaced atomically.")],
    opset: Annotated[int, typer.Option(help="ONNX operator set, from 18 on.")] = 18,
    calibration_data: Annotated[
        Path | None, typer.Option(help="A folder of real images for the proof. [generated examples]")
    ] = None,
    max_flips: Annotated[int, typer.Option(help="Refuse a graph that changed more decisions than this.")] = 0,
    policy: Annotated[Path | None, typer.Option(help="The bundle's policy. [the default policy]")] = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name. [the checkpoint's]")] = None,
    license: Annotated[str | None, typer.Option(help="SPDX expression of the weights. [the checkpoint's]")] = None,
) -> None:
    """Export a checkpoint to ONNX, prove that its decisions survived, and write the bundle."""
    needs("export", "torch", "transformers", "safetensors", "onnx", "onnxscript")
    needs("cpu", "onnxruntime")
    module = import_module("safevlm_export.export")
    options = module.ExportOptions(
        opset=opset,
        calibration_data=calibration_data,
        max_flips=max_flips,
        policy=policy,
        name=name,
        license=license,
    )
    typer.echo(module.export_checkpoint(checkpoint, out, options).render())
