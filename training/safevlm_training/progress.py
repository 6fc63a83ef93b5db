"""Progress bars for people at a terminal, and plain lines for logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

T = TypeVar("T")


class Progress:
    """Shows how far a loop is, on standard error.

    Args:
        wanted: False for silence in any case.
    """

    def __init__(self, wanted: bool = True) -> None:
        self._console = Console(stderr=True)
        self._wanted = wanted

    def over(self, things: Sequence[T], title: str) -> Iterator[T]:
        """Goes through `things`; at a terminal, under a bar with count, rate and remaining time."""
        if not (self._wanted and self._console.is_terminal):
            yield from things
            return
        columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
        with RichProgress(*columns, console=self._console) as bar:
            yield from bar.track(things)

    def say(self, line: str) -> None:
        """Prints one line, at a terminal or not."""
        if self._wanted:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")
