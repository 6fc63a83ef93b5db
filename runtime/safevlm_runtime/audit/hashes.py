"""Which bytes have a row already: a table on the disk, so that memory stays flat at millions of images."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from types import TracebackType

from safevlm_runtime.audit.row import Row, row_of
from safevlm_sdk.errors import AuditError

NAME = ".hashes.sqlite"
_CACHE_KIB = 32 * 1024


class HashIndex:
    """SHA-256 to where the first row with it lies in the journal; used from any thread.

    It is made anew from the journal whenever an audit is started, so nothing of it has to survive a crash.

    Args:
        folder: Of the audit, which this process has locked.
        journal: The file that rows are read from.

    Raises:
        AuditError: It cannot be written.
    """

    def __init__(self, folder: Path, journal: Path) -> None:
        self._path = folder / NAME
        self._lock = threading.Lock()
        try:
            self._path.unlink(missing_ok=True)
            self._rows = open(journal, "rb")  # noqa: SIM115 - held until `close`
            self._table = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            for order in (
                "PRAGMA journal_mode = OFF",
                "PRAGMA synchronous = OFF",
                f"PRAGMA cache_size = -{_CACHE_KIB}",
                "CREATE TABLE first (hash BLOB PRIMARY KEY, begin INTEGER, size INTEGER) WITHOUT ROWID",
                "BEGIN",  # and never COMMIT: nobody else reads it
            ):
                self._table.execute(order)
        except (OSError, sqlite3.Error) as problem:
            raise self._failed(problem) from problem

    def first(self, sha256: str) -> Row | None:
        """The first row of an item with these bytes."""
        with self._lock:
            try:
                place = self._table.execute(
                    "SELECT begin, size FROM first WHERE hash = ?", (bytes.fromhex(sha256),)
                ).fetchone()
                if place is None:
                    return None
                self._rows.seek(place[0])
                return row_of(self._rows.read(place[1]))
            except (OSError, sqlite3.Error) as problem:
                raise self._failed(problem) from problem

    def add(self, sha256: str, begin: int, size: int) -> None:
        """Notes where a row lies, unless an earlier one has the same bytes."""
        with self._lock:
            try:
                self._table.execute(
                    "INSERT OR IGNORE INTO first VALUES (?, ?, ?)", (bytes.fromhex(sha256), begin, size)
                )
            except sqlite3.Error as problem:
                raise self._failed(problem) from problem

    def close(self) -> None:
        """Removes it from the disk."""
        with self._lock:
            self._table.close()
            self._rows.close()
            os.unlink(self._path)

    def __enter__(self) -> HashIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _failed(self, problem: Exception) -> AuditError:
        return AuditError(
            f"{self._path}: cannot be written or read ({problem}); free some space, and run the same command again"
        )
