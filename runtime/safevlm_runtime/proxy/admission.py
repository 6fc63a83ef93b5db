"""How much work is taken on: few jobs run, a queue waits, and whoever comes then is told to come again."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from heapq import heapify, heapreplace
from typing import Final, Protocol, TypeVar, cast

from safevlm_sdk.errors import EngineUnavailable, Overloaded

Result = TypeVar("Result")
_WEIGHT: Final = 0.125
"""Of the newest job in the smoothed time of a job, as for the round trips of TCP."""
_BEARABLE: Final = 0.5
"""Of the time of a job, to wait for under lasting overload."""


class Meter(Protocol):
    """Counts what waits and what runs."""

    def waiting(self, change: int) -> None:
        """One more or one less waits."""

    def judging(self, change: int) -> None:
        """One more or one less runs."""


def smoothed(before: float | None, seconds: float) -> float:
    """The smoothed time of a job after one that took so long; None before the first."""
    return seconds if before is None else before + _WEIGHT * (seconds - before)


def judged_at_once(cores: int, workers: int) -> int:
    """How many requests one of several worker processes judges at a time: two, or one where cores are few.

    A graph uses all cores by itself. A second judgement hides the parts of the first that use one core; where two
    cores have clients, the event loop and the graph to serve, it takes more time from them than it saves.
    """
    return 2 if cores >= 4 * workers else 1


def expected_wait(waiting: int, workers: int, job_seconds: float | None, running: Sequence[float]) -> float:
    """Seconds until a job begins that comes behind others, if each takes the same time.

    0 while a worker is free, and as long as no job has ended, whose time could be known.

    Args:
        waiting: Jobs before it that have not begun.
        workers: Jobs that may run at one time.
        job_seconds: Time of a job.
        running: For how many seconds each of the jobs that run has done so.
    """
    job = job_seconds or 0.0
    free = [max(0.0, job - seconds) for seconds in running] + [0.0] * (workers - len(running))
    heapify(free)
    for _ in range(waiting):
        heapreplace(free, free[0] + job)
    return free[0]


class Admission:
    """Runs jobs in a few threads, in the order in which they come; used from one event loop.

    A job is taken on while a place is free and the wait that is expected, by the smoothed time of the jobs that have
    ended, is short. How short depends on what is asked for: as long as all of it could be begun within
    `burst_seconds`, whether or not it was taken on, that is how long one may wait. Where more is asked for, a queue
    of that length would never empty, make everybody late and get nothing more done: then one may wait for half the
    time that a job takes.

    A job whose caller has gone keeps its place until its turn, so that going away early gains nothing, and then ends
    at once if it has not begun.
    """

    def __init__(
        self,
        *,
        running: int,
        waiting: int,
        burst_seconds: float,
        meter: Meter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._meter = meter
        self._clock = clock
        self._workers = running
        self._burst_seconds = burst_seconds
        self._job_seconds: float | None = None
        self._begun: dict[int, float] = {}  # thread to when its job began
        self._pool = ThreadPoolExecutor(running, thread_name_prefix="safevlm-judge")
        self._most = running + waiting
        self._open = 0
        self._busy_until = float("-inf")
        self._closed = False

    @property
    def open(self) -> int:
        """Jobs that run or wait."""
        return self._open

    def check(self) -> None:
        """Does nothing if a job would be taken on now; to be asked once for each that comes.

        Raises:
            Overloaded: Every place is taken, or it would have to wait for too long.
            EngineUnavailable: The server is going down.
        """
        now = self._clock()
        work = (self._job_seconds or 0.0) / self._workers
        # What was asked for is remembered for twice the time of a burst, so that the end of an overload is noticed.
        self._busy_until = min(max(self._busy_until, now) + work, now + 2 * self._burst_seconds)
        self._check()

    def _check(self) -> None:
        if self._closed:
            raise EngineUnavailable("the gate is shutting down; ask another instance")
        wait = self._expected_wait()
        if self._open >= self._most or wait > self._bearable_wait():
            seconds = max(1, math.ceil(wait))
            raise Overloaded(f"too many requests wait for the gate; ask again in {seconds} s", retry_after=seconds)

    async def run(self, job: Callable[[], Result]) -> Result:
        """The result of a job, which runs in the context of its caller.

        Raises:
            Overloaded: See `check`.
            EngineUnavailable: See `check`; or no thread could be started for it.
        """
        self._check()
        wanted: Callable[[], Result] | None = job  # None, and nothing that it holds is kept, once its caller has gone
        taken: list[float] = []

        def begin() -> Result | None:
            self._meter.waiting(-1)
            work = wanted
            if work is None:
                return None
            self._begun[threading.get_ident()] = start = self._clock()
            self._meter.judging(1)
            try:
                return work()
            finally:
                del self._begun[threading.get_ident()]
                taken.append(self._clock() - start)
                self._meter.judging(-1)

        loop = asyncio.get_running_loop()
        self._open += 1
        self._meter.waiting(1)
        try:
            future = self._pool.submit(contextvars.copy_context().run, begin)  # spans lie below the caller's
        except RuntimeError as problem:  # the pool keeps it for the thread that it starts next
            wanted = None
            self._open -= 1
            raise EngineUnavailable("the gate could not start a thread; allow it more, and ask again") from problem
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave, taken))
        try:
            # Shielded: a cancelled job would leave its place while its work still waits in the pool.
            found = await asyncio.shield(asyncio.wrap_future(future))
            return cast("Result", found)  # None only for a caller who has gone
        except asyncio.CancelledError:
            wanted = None
            raise

    def close(self) -> None:
        """Takes no further jobs; those that wait are dropped."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _expected_wait(self) -> float:
        now = self._clock()
        running = [now - begun for begun in tuple(self._begun.values())]
        waiting = max(0, self._open - len(running))
        return expected_wait(waiting, self._workers, self._job_seconds, running)

    def _bearable_wait(self) -> float:
        job = self._job_seconds or 0.0
        burst = self._busy_until - self._clock() <= self._burst_seconds
        return max(job, self._burst_seconds) if burst else _BEARABLE * job

    def _leave(self, taken: list[float]) -> None:
        self._open -= 1
        for seconds in taken:  # none of a job that did not begin
            self._job_seconds = smoothed(self._job_seconds, seconds)
