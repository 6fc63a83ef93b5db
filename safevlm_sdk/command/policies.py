"""`safevlm policy check`: is this file a policy, and what does it say?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from safevlm_sdk.command.printing import console, printable
from safevlm_sdk.policy import Policy, load_policy
from safevlm_sdk.taxonomy import load_taxonomy


def check_policy(
    file: Annotated[Path, typer.Argument(help="The policy, a TOML file.")],
    taxonomy: Annotated[
        str, typer.Option(help="A shipped taxonomy's name, or the path of a .toml file.")
    ] = "safevlm",
) -> None:
    """Check a policy file and print what it says."""
    policy = load_policy(file)
    known = load_taxonomy(taxonomy)
    for category in policy.actions:
        known.require(category, where=f"{file}: actions.{category}")
    shown = console()
    shown.print(_table(policy))
    off = sorted(set(known.categories) - set(policy.actions))
    shown.print(f"switched off: {', '.join(off) or 'nothing'}")
    shown.print(f"uncovered: {policy.uncovered}; on error: {policy.on_error}; frames: {policy.frames}")
    shown.print(f"digest: {policy.digest}", soft_wrap=True)


def _table(policy: Policy) -> Table:
    table = Table("category", "low", "medium", "high", "threshold", title=Text(printable(policy.name)))
    for category, actions in policy.actions.items():
        threshold = policy.thresholds.get(category)
        table.add_row(
            category,
            actions.low.value,
            actions.medium.value,
            actions.high.value,
            "the bundle's" if threshold is None else str(threshold),
        )
    return table
