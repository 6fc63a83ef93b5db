"""How far an audit is: a bar at a terminal, and a line a minute anywhere else."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from safevlm_sdk.errors import SafeVLMError

EVERY_SECONDS = 60.0

Done = Callable[[int], None]
"""Told of the number of rows: first of those that were there before, then after each one."""


@contextmanager
def shown(source: Any) -> Iterator[Done]:
    """What to tell the number of rows to; all of it goes to standard error."""
    if not sys.stderr.isatty():
        lines = Lines(lambda line: typer.echo(line, err=True))
        _count(source, lines.of)
        yield lines
        return
    columns = (TextColumn("judging"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("judging", total=None)
        begun = False

        def done(rows: int) -> None:
            nonlocal begun
            if rows and not begun:
                typer.echo(_going_on(rows), err=True)
            begun = True
            bar.update(task, completed=rows)

        _count(source, lambda total: bar.update(task, total=total))
        yield done


class Lines:
    """Says now and then how many rows there are, at which rate they come, and how long the rest will take.

    Args:
        say: Gets the lines.
        clock: Seconds.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = monotonic) -> None:
        self._say, self._clock = say, clock
        self._total: int | None = None
        self._first: int | None = None

    def of(self, total: int) -> None:
        """How many there will be."""
        self._total = total

    def __call__(self, rows: int) -> None:
        """See `Done`."""
        now = self._clock()
        if self._first is None:
            self._first, self._start, self._said = rows, now, now
            if rows:
                self._say(_going_on(rows))
        elif now - self._said >= EVERY_SECONDS:
            self._said = now
            rate = (rows - self._first) / (now - self._start)
            many = f"{rows}" if self._total is None else f"{rows} of {self._total}"
            left = "" if self._total is None or not rate else f", {(self._total - rows) / rate / 60:.0f} min left"
            self._say(f"judged {many}, {rate:.1f}/s{left}")


def _going_on(rows: int) -> str:
    return f"goes on after {rows} items that are done"


def _count(source: Any, tell: Callable[[int], None]) -> None:
    """Counts the source beside the work: how much is left is not worth waiting for."""

    def count() -> None:
        with suppress(SafeVLMError):  # the audit itself meets it, too, and says so
            tell(sum(1 for _ in source.items()))

    threading.Thread(target=count, name="safevlm-count", daemon=True).start()


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")
