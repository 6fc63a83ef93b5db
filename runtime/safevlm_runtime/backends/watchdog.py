"""Stopping runs that take too long, at a cost far below that of a timer per run."""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Stoppable(Protocol):
    """What a run looks at while it runs, such as ONNX Runtime's RunOptions."""

    terminate: bool


class Ticket:
    """One run under watch; `expired` once it was stopped."""

    __slots__ = ("deadline", "expired", "options")

    def __init__(self, options: Stoppable, deadline: float) -> None:
        self.options = options
        self.deadline = deadline
        self.expired = False


class Watchdog:
    """One thread that watches all runs of one backend.

    The thread sleeps until the next deadline. While runs come one after another it looks up only now and then, so
    that a run rarely has to wake it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._state = _State(self._seconds)
        self._thread: threading.Thread | None = None
        weakref.finalize(self, _State.stop, self._state)

    @contextmanager
    def watch(self, options: Stoppable, images: int = 1) -> Iterator[Ticket]:
        """Sets `options.terminate` if the block takes longer than the limit, which is per image."""
        ticket = Ticket(options, time.monotonic() + self._seconds * max(1, images))
        if self._process != os.getpid():  # threads do not survive a fork, and a lock may be left held
            self._start()
        state = self._state
        with state.changed:
            if self._thread is None:
                self._thread = threading.Thread(target=state.serve, name="safevlm-watchdog", daemon=True)
                self._thread.start()
            state.running[id(ticket)] = ticket
            state.busy = True
            if ticket.deadline < state.wakes_at:
                state.changed.notify()
        try:
            yield ticket
        finally:
            with state.changed:
                del state.running[id(ticket)]

    def close(self) -> None:
        """Ends the thread once no run is left."""
        self._state.stop()


class _State:
    """What the thread and the runs share; it holds no reference to the watchdog, which may be collected."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.changed = threading.Condition(threading.Lock())
        self.running: dict[int, Ticket] = {}
        self.busy = False
        self.wakes_at = math.inf
        self.stopped = False

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify()

    def serve(self) -> None:
        with self.changed:
            while not self.stopped or self.running:
                now = time.monotonic()
                self._expire(now)
                pending = [ticket.deadline for ticket in self.running.values() if not ticket.expired]
                # A thread that was busy a moment ago will be so again: a nap is cheaper than being woken.
                nap = now + self.seconds if self.busy or self.running else math.inf
                self.busy = False
                self.wakes_at = min([nap, *pending])
                self.changed.wait(None if self.wakes_at == math.inf else max(0.0, self.wakes_at - now))

    def _expire(self, now: float) -> None:
        for ticket in self.running.values():
            if not ticket.expired and ticket.deadline <= now:
                ticket.expired = True
                ticket.options.terminate = True
