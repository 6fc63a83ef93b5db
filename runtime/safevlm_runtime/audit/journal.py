"""`verdicts.jsonl`, which grows by whole lines and is at any moment what was done so far."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType

import msgspec

from safevlm_runtime.audit.item import Item
from safevlm_runtime.audit.row import Row, row_line, row_of
from safevlm_sdk.errors import AuditBusy, AuditError, AuditMismatch

if sys.platform != "win32":
    import fcntl

VERDICTS = "verdicts.jsonl"
SYNC_SECONDS = 5.0


class Journal:
    """The rows of an audit, in the order of its source; one process at a time may hold it.

    A row is handed to the system as soon as it is there, so that no end of the process loses one; every few seconds
    it is made sure that it is on the disk. Windows has no such lock.

    Args:
        folder: Where it lies; made if it is not there.

    Raises:
        AuditError: The folder or the file cannot be made or opened; AuditBusy if another process writes it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / VERDICTS
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, flags, 0o644)
        except OSError as problem:
            raise AuditError(f"{self.path}: cannot be written ({problem.strerror}); name another --out") from problem
        try:
            self._lock()
            self.size = os.fstat(self._descriptor).st_size
        except BaseException:
            os.close(self._descriptor)
            raise
        self._synced = monotonic()

    def replay(self, items: Iterator[Item]) -> Iterator[tuple[Row, int, int]]:
        """Goes through the rows that are there, beside the items that they must be of.

        What a crash left of a last line is cut off. Afterwards `items` stands at the first item without a row.

        Args:
            items: Of the source, from the first.

        Yields:
            Each row, where its line begins, and how many bytes that has.

        Raises:
            AuditMismatch: An item is not the one that a row is of: the source has changed.
            AuditError: A line is no row, or the file cannot be read.
        """
        offset = 0
        try:
            with open(self.path, "rb") as file:
                for number, line in enumerate(file, start=1):
                    if not line.endswith(b"\n"):
                        break
                    row = self._parsed(line, number)
                    self._require_same(row, next(items, None), number)
                    yield row, offset, len(line)
                    offset += len(line)
            self._cut(offset)
        except OSError as problem:
            raise self._unwritten(problem) from problem

    def append(self, row: Row) -> tuple[int, int]:
        """Writes a row.

        Returns:
            Where its line begins, and how many bytes that has.

        Raises:
            AuditError: It cannot be written, as on a full disk; what was there before still is.
        """
        line, begin = row_line(row), self.size
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            self.size = begin + len(line)
            if monotonic() - self._synced > SYNC_SECONDS:
                self.sync()
        except OSError as problem:
            with suppress(OSError):  # what is left of the line is cut at the next start
                self._cut(begin)
            raise self._unwritten(problem) from problem
        return begin, len(line)

    def sync(self) -> None:
        """Makes sure that all rows are on the disk."""
        os.fsync(self._descriptor)
        self._synced = monotonic()

    def close(self) -> None:
        """Lets others write; calling it again does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        if sys.platform == "win32":
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise AuditBusy(f"{self.path}: another process writes it; wait for its end, or stop it") from problem
        except OSError as problem:
            raise AuditError(
                f"{self.path}: cannot be locked ({problem.strerror}); put --out on a disk of this machine"
            ) from problem

    def _require_same(self, row: Row, item: Item | None, number: int) -> None:
        if item is None or (item.name, item.source) != (row.path, row.source):
            found = "no further item" if item is None else repr(item.name)
            raise AuditMismatch(
                f"{self.path}: line {number} is of {row.path!r}, where the source now has {found}; it has changed "
                "since the audit began: audit it anew, with another --out"
            )

    def _parsed(self, line: bytes, number: int) -> Row:
        try:
            return row_of(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
            raise AuditError(
                f"{self.path}: line {number} is no row ({problem}); audit anew, with another --out"
            ) from problem

    def _cut(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)
        self.size = size

    def _unwritten(self, problem: OSError) -> AuditError:
        return AuditError(
            f"{self.path}: cannot be written ({problem.strerror}); what was judged is kept: free some space, "
            "and run the same command again"
        )
