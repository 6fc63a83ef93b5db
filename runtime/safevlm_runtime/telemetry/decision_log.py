"""The decision log: one JSON line per verdict, with digests in place of images, that a kill does not tear.

Every line is appended by one `write` under a lock, and no line that fits a page of the page cache crosses the end of
one: the kernel copies page by page, and only between two pages can a kill come in. Spaces before a line fill the page
before it, which is legal JSON. A line that was torn all the same, by a crash of the machine or a full disk, is closed
off by the next one, so that it stays alone.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from safevlm_runtime.judging.observer import Event
from safevlm_runtime.telemetry.record import record_of
from safevlm_sdk.errors import ObserverFailed, OptionError
from safevlm_sdk.verdict import Verdict

if sys.platform != "win32":
    import fcntl

PAGE = 4096  # no page cache has smaller pages


class DecisionLog:
    """An `Observer` that appends to a file; several threads and processes may append to the same one.

    Args:
        path: The file; made with permissions 0o640 less the umask when there is none. Its folder must exist.
        fsync: "always" waits for the disk at each line; "interval" once in `sync_seconds`, when a line is written;
            "never" leaves it to the system. A kill of the process loses no line under any of them; a crash of the
            machine loses what was not yet on the disk.
        sync_seconds: For "interval".
        on_error: What a line that cannot be written does: "block" lets nothing go on, "count" only counts it.
        max_bytes: Before the file would grow beyond it, it becomes `path.1`, which becomes `path.2` and so on.
        keep: So many older files stay; the oldest is lost.
        on_lost: Called for each line that could not be written.

    Raises:
        OptionError: Nothing can be appended there, or a number is out of range.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fsync: Literal["always", "interval", "never"] = "interval",
        sync_seconds: float = 1.0,
        on_error: Literal["block", "count"] = "block",
        max_bytes: int = 64 * 2**20,
        keep: int = 10,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        if sys.platform == "win32":
            raise OptionError(
                "the decision log needs the file locks of POSIX, which Windows has not; use an Observer"
            )
        if fsync not in ("always", "interval", "never") or on_error not in ("block", "count"):
            raise OptionError(
                f"fsync is {fsync!r} and on_error is {on_error!r}; see DecisionLog for what they may be"
            )
        if sync_seconds < 0 or max_bytes < PAGE or keep < 1:
            raise OptionError(
                f"sync_seconds is {sync_seconds}, max_bytes {max_bytes} and keep {keep}; they must be at least 0, "
                f"{PAGE} and 1"
            )
        self._path = Path(os.path.abspath(path))
        self._fsync = fsync
        self._sync_seconds = sync_seconds
        self._on_error = on_error
        self._max_bytes = max_bytes
        self._keep = keep
        self._on_lost = on_lost
        self._synced = time.monotonic()
        try:
            with self._locked():
                pass
        except OSError as problem:
            raise OptionError(f"the decision log {path} cannot be opened ({problem.strerror})") from problem

    def judged(self, verdict: Verdict, event: Event) -> None:
        """Appends the verdict.

        Raises:
            ObserverFailed: The line could not be written, and `on_error` is "block".
        """
        line = json.dumps(record_of(verdict, event), separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
        try:
            self._append(line)
        except OSError as problem:
            if self._on_lost is not None:
                self._on_lost()
            if self._on_error == "block":
                raise ObserverFailed(
                    f"the decision log cannot be written ({problem.strerror}), so nothing goes on; make room or "
                    "repair it, or accept lost lines with on_error = 'count'"
                ) from problem

    def close(self) -> None:
        """Waits until everything is on the disk, unless `fsync` is "never"; the log can be used again."""
        if self._fsync != "never":
            with self._locked() as file:
                os.fsync(file)

    def _append(self, line: bytes) -> None:
        with self._locked() as file:
            size = os.fstat(file).st_size
            if size and size + len(line) > self._max_bytes:
                self._rotate(file)
            else:
                self._write(file, size, line)
                return
        with self._locked() as file:  # the new file, or the one that another process has made meanwhile
            self._write(file, os.fstat(file).st_size, line)

    def _write(self, file: int, size: int, line: bytes) -> None:
        tail = os.pread(file, PAGE, max(0, size - PAGE)).rpartition(b"\n")[2]
        closing = b"\n" if tail.strip() else b""
        room = PAGE - (size + len(closing)) % PAGE
        padding = b" " * room if room < len(line) <= PAGE else b""
        data = closing + padding + line
        if os.write(file, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        due = self._fsync == "interval" and time.monotonic() - self._synced >= self._sync_seconds
        if due or self._fsync == "always":
            os.fsync(file)
            self._synced = time.monotonic()

    def _rotate(self, file: int) -> None:
        """Renames the file to `.1`, whose place is made free first; whoever holds the lock may do so."""
        if self._fsync != "never":
            os.fsync(file)
        older = [self._path.with_name(f"{self._path.name}.{number}") for number in range(1, self._keep + 1)]
        # Up to the first gap only: a kill in the middle leaves one, and nothing may fall off the end for it.
        last = next((at for at, path in enumerate(older) if not path.exists()), self._keep - 1)
        for at in range(last, 0, -1):
            os.replace(older[at - 1], older[at])
        os.replace(self._path, older[0])

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """A descriptor of the file that is at the path now, locked against every other thread and process."""
        while True:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            file = os.open(self._path, flags, 0o640)
            try:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise OSError(errno.EINVAL, "not a regular file")
                fcntl.flock(file, fcntl.LOCK_EX)
                if self._is_current(file):
                    yield file
                    return
            finally:
                os.close(file)

    def _is_current(self, file: int) -> bool:
        """False when another process has renamed the file while this one waited for the lock."""
        try:
            return os.path.samestat(os.fstat(file), os.stat(self._path, follow_symlinks=False))
        except FileNotFoundError:
            return False
