"""`safevlm log`: what a decision log holds, and whether every line of it is whole."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from safevlm_sdk.command.printing import printable

SHOWN = 20


def log(
    files: Annotated[
        list[Path], typer.Argument(help="Files of the decision log, such as log.jsonl.1 and log.jsonl.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Count what a decision log says, and name the lines that are cut or edited.

    Exit code 0: every line is whole; 1: some are not.
    """
    summary = import_module("safevlm_runtime.telemetry.log_summary").summarise(files)
    if as_json:
        typer.echo(json.dumps(asdict(summary)))
    else:
        typer.echo(
            f"{summary.lines} verdicts" + (f" from {summary.first} to {summary.last}" if summary.lines else "")
        )
        for key, counts in summary.counts.items():
            if counts:
                said = ", ".join(
                    f"{value} {count}" for value, count in sorted(counts.items(), key=lambda one: -one[1])
                )
                typer.echo(printable(f"{key}: {said}"))
        typer.echo(f"went on although the gate had failed: {summary.went_on_failed}")
        for place in summary.broken[:SHOWN]:
            typer.echo(printable(f"not a whole line: {place}"))
        if len(summary.broken) > SHOWN:
            typer.echo(f"and {len(summary.broken) - SHOWN} more")
    if summary.broken:
        raise typer.Exit(1)
