"""The threads of this process as a pool."""

from __future__ import annotations

import threading
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

    Bytes that another thread judges already are waited for, and not judged again.

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
        self._lock = threading.Lock()
        self._judging: dict[str, Future[Row]] = {}  # by SHA-256, until whoever takes the rows knows them

    def rows(self, items: Iterable[Item]) -> Iterator[Row]:
        """See `Pool.rows`; the items of a bounded window are in work at a time."""
        waiting: deque[Future[Row]] = deque()
        for item in items:
            waiting.append(self._threads.submit(self._row, item))
            if len(waiting) >= self._window:
                yield from self._taken(waiting.popleft())
        while waiting:
            yield from self._taken(waiting.popleft())

    def close(self) -> None:
        """See `Pool.close`; waits for the few images that are being judged."""
        self._threads.shutdown(cancel_futures=True)

    def _row(self, item: Item) -> Row:
        own: list[Future[Row]] = []

        def known(sha256: str) -> Row | None:
            with self._lock:
                first = self._judging.get(sha256)
                if first is None:
                    own.append(self._judging.setdefault(sha256, Future()))
            if first is not None:
                return first.result()
            return None if self._known is None else self._known(sha256)

        try:
            row = self._judge.row(item, known)
        except BaseException as problem:
            for one in own:
                one.set_exception(problem)
            raise
        for one in own:
            one.set_result(row)
        return row

    def _taken(self, future: Future[Row]) -> Iterator[Row]:
        """Gives a row, and forgets its bytes once it was taken."""
        row = future.result()
        yield row
        if row.sha256 is not None:
            with self._lock:
                self._judging.pop(row.sha256, None)
