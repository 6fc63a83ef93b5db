"""Where the milliseconds of a check went."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Step = Literal["decode", "preprocess", "infer", "decide"]


class Clock:
    """Adds up the time of each step; used by one thread at a time."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {"decode": 0.0, "preprocess": 0.0, "infer": 0.0, "decide": 0.0}

    @contextmanager
    def step(self, name: Step) -> Iterator[None]:
        """Adds the time of the block to a step."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.ms[name] += (time.perf_counter() - start) * 1e3

    def add(self, other: Clock, share: float) -> None:
        """Adds a share of the time that several images took together."""
        for name, ms in other.ms.items():
            self.ms[name] += ms * share

    def timings(self) -> dict[str, float]:
        """The steps and their total."""
        return {**self.ms, "total": sum(self.ms.values())}
