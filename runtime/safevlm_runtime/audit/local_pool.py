"""The threads of this process as a pool."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from safevlm_runtime.audit.item import Item
from safevlm_runtime.audit.judge import Judge, Known
from safevlm_runtime.audit.row import Row
from safevlm_sdk.errors import OptionError

_AHEAD = 16


class LocalPool:
    """Judges on threads, which Pillow, NumPy and the engine use at once: while one decodes, others run the graph.

    Args:
        judge: Shared by all threads; closing it is left to its owner.
        jobs: Threads; as many as there are cores fill them.
        known: As for `Judge.row`.

    Raises:
        OptionError: `jobs` is below 1.
    """

    def __init__(self, judge: Judge, jobs: int, known: Known | None = None) -> None:
        if jobs < 1:
            raise OptionError(f"jobs is {jobs}; give at least 1")
        self._judge, self._known, self._window = judge, known, jobs * _AHEAD
        self._threads = ThreadPoolExecutor(jobs, thread_name_prefix="safevlm-audit")

    def rows(self, items: Iterable[Item]) -> Iterator[Row]:
        """See `Pool.rows`; the items of a bounded window are in work at a time."""
        waiting: deque[Future[Row]] = deque()
        for item in items:
            waiting.append(self._threads.submit(self._judge.row, item, self._known))
            if len(waiting) >= self._window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def close(self) -> None:
        """See `Pool.close`; waits for the few images that are being judged."""
        self._threads.shutdown(cancel_futures=True)
