"""How much work is taken on: few jobs run, a queue waits, and whoever comes then is told to come again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar, cast

from safevlm_sdk.errors import EngineUnavailable, Overloaded

Result = TypeVar("Result")


class Meter(Protocol):
    """Counts what waits and what runs."""

    def waiting(self, change: int) -> None:
        """One more or one less waits."""

    def judging(self, change: int) -> None:
        """One more or one less runs."""


class Admission:
    """Runs jobs in a few threads, in the order in which they come; used from one event loop.

    A job whose caller has gone keeps its place until its turn, so that going away early gains nothing, and then ends
    at once if it has not begun.
    """

    def __init__(self, *, running: int, waiting: int, meter: Meter) -> None:
        self._meter = meter
        self._pool = ThreadPoolExecutor(running, thread_name_prefix="safevlm-judge")
        self._most = running + waiting
        self._open = 0
        self._closed = False

    @property
    def open(self) -> int:
        """Jobs that run or wait."""
        return self._open

    async def run(self, job: Callable[[], Result]) -> Result:
        """The result of a job.

        Raises:
            Overloaded: Every place is taken.
            EngineUnavailable: The server is going down.
        """
        if self._closed:
            raise EngineUnavailable("the gate is shutting down; ask another instance")
        if self._open >= self._most:
            raise Overloaded("every place of the gate is taken; ask again in a second")
        gone = False

        def begin() -> Result | None:
            self._meter.waiting(-1)
            if gone:
                return None
            self._meter.judging(1)
            try:
                return job()
            finally:
                self._meter.judging(-1)

        loop = asyncio.get_running_loop()
        self._open += 1
        self._meter.waiting(1)
        future = self._pool.submit(begin)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave))
        try:
            # Shielded: a cancelled job would leave its place while its work still waits in the pool.
            found = await asyncio.shield(asyncio.wrap_future(future))
            return cast("Result", found)  # None only for a caller who has gone
        except asyncio.CancelledError:
            gone = True
            raise

    def close(self) -> None:
        """Takes no further jobs; those that wait are dropped."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _leave(self) -> None:
        self._open -= 1
