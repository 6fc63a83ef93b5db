"""Who is told of every verdict: metrics, traces, the decision log, or an application's own record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from safevlm_sdk.errors import ObserverFailed
from safevlm_sdk.verdict import Verdict

Entry = Literal["sdk", "guard", "proxy", "audit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened around a verdict. It names no file and holds nothing of the image or the question.

    Attributes:
        entry: Where the image came in.
        moment: Seconds since 1970, UTC, as `time.time()` gives.
        source: The policy's name for where images come from, if it has one.
        request_id: Tells requests apart; several images may share it.
        prompt_mixed: The safety prompt was put into the request.
        blocked: The image did not go on.
    """

    entry: Entry
    moment: float
    source: str | None = None
    request_id: str | None = None
    prompt_mixed: bool = False
    blocked: bool = False


class Observer(Protocol):
    """Is told of every verdict, from any thread, before anything goes on to an engine."""

    def judged(self, verdict: Verdict, event: Event) -> None:
        """Takes note of a verdict; what it raises keeps the image from going on."""


def notify(observers: Sequence[Observer], verdict: Verdict, event: Event) -> None:
    """Tells every observer, also those behind one that fails. May wait for a disk: not for an event loop's thread.

    Raises:
        ObserverFailed: At least one failed. Let nothing go on.
    """
    failures: list[Exception] = []
    for observer in observers:
        try:
            observer.judged(verdict, event)
        except Exception as problem:
            failures.append(problem)
    for failure in failures:
        if isinstance(failure, ObserverFailed):
            raise failure
    if failures:
        raise ObserverFailed(
            f"an observer failed with {type(failures[0]).__name__}, so nothing goes on; repair it or leave it out"
        ) from failures[0]
