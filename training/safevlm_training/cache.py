"""Features on disk: computed once per image, whatever happens to the process in between.

A cache is a folder for one encoder:

    rows.bin      one row of [T, D] numbers per image, back to back
    index.jsonl   one line per fact: which image is in which row, and which file has which bytes
    lock          held by the one process that may write, until it has written everything it needs

Rows are written and synced before the lines that name them, and each line carries its own checksum and that of its
row. What a killed process left half-written is dropped when the cache is opened, and computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.atomic import publish_file
from safevlm_sdk.errors import TrainingError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

BLOCK = 2**20


class FeatureCache:
    """Features of one encoder by the sha256 of an image's bytes; open it in a `with` block.

    Args:
        folder: Of this encoder; made if need be.
        shape: (T, D) of a row.
        dtype: "float16" or "float32".

    Raises:
        TrainingError: Another process writes to it, or it cannot be read.
    """

    def __init__(self, folder: Path, *, shape: tuple[int, int], dtype: str) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._row_bytes = shape[0] * shape[1] * self.dtype.itemsize
        self._rows_file = folder / "rows.bin"
        self._index_file = folder / "index.jsonl"
        self._rows: dict[str, int] = {}
        self._files: dict[str, tuple[int, int, str]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock: int | None = _lock(folder / "lock")
            try:
                self._recover()
            except BaseException:
                self.release()
                raise
        except OSError as problem:
            raise TrainingError(f"{folder}: the feature cache cannot be opened ({problem.strerror})") from problem

    def __enter__(self) -> FeatureCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Ends writing: other processes may now write, and this one goes on reading what it knows."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __contains__(self, image: str) -> bool:
        return image in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def digest_of(self, path: Path) -> str:
        """sha256 of a file's bytes; a file of known size and modification time is not read again.

        Raises:
            OSError: The file cannot be read.
        """
        found = os.stat(path)
        known = self._files.get(str(path))
        if known is not None and known[:2] == (found.st_size, found.st_mtime_ns):
            return known[2]
        image = _sha256(path)
        self._files[str(path)] = (found.st_size, found.st_mtime_ns, image)
        line = {"file": str(path), "size": found.st_size, "mtime_ns": found.st_mtime_ns, "image": image}
        self._append([line], sync=False)
        return image

    def add(self, features: Sequence[tuple[str, NDArray[np.floating]]]) -> None:
        """Stores features [T, D] of images that are not here yet, for good when the call returns.

        Raises:
            TrainingError: Features are not finite in the cache's dtype, or of another shape, or writing has ended.
        """
        if not features:
            return
        if self._lock is None:
            raise TrainingError(f"{self._rows_file.parent}: writing to this feature cache has ended; open it again")
        first = len(self._rows)
        rows, lines = [], []
        for number, (image, array) in enumerate(features, start=first):
            row = self._row(image, array)
            rows.append(row)
            lines.append({"image": image, "row": number, "crc": zlib.crc32(row)})
        _write_at(self._rows_file, first * self._row_bytes, b"".join(rows))
        self._append(lines, sync=True)
        self._rows |= {image: number for number, (image, _) in enumerate(features, start=first)}

    def read(self, images: Sequence[str]) -> NDArray[np.float32]:
        """Features of cached images: float32 [N, T, D]."""
        if not images:
            return np.empty((0, *self.shape), dtype=np.float32)
        rows = np.memmap(self._rows_file, dtype=self.dtype, mode="r", shape=(len(self._rows), *self.shape))
        return rows[[self._rows[image] for image in images]].astype(np.float32)

    def _row(self, image: str, array: NDArray[np.floating]) -> bytes:
        if array.shape != self.shape:
            raise TrainingError(f"features of image {image[:12]} have shape {array.shape}; expected {self.shape}")
        with np.errstate(over="ignore"):
            row = array.astype(self.dtype)
        if not np.isfinite(row).all():
            raise TrainingError(
                f"features of image {image[:12]} are not finite in {self.dtype} (largest: {np.abs(array).max()}); "
                'set [cache] dtype = "float32", and if they still are not, look at the tower'
            )
        return row.tobytes()

    def _append(self, lines: Sequence[dict[str, Any]], *, sync: bool) -> None:
        data = b"".join(_line(line) for line in lines)
        size = self._index_file.stat().st_size if self._index_file.exists() else 0
        _write_at(self._index_file, size, data, sync=sync)

    def _recover(self) -> None:
        """Reads the index and leaves behind only whole lines that name whole rows."""
        text = self._index_file.read_bytes() if self._index_file.exists() else b""
        pieces = text.split(b"\n")
        facts = [fact for piece in pieces[:-1] if (fact := _fact(piece)) is not None]
        kept = self._take(facts)
        if len(kept) != len(pieces) - 1 or pieces[-1]:
            publish_file(self._index_file, b"".join(_line(fact) for fact in kept), error=TrainingError)
        if self._rows_file.exists():
            os.truncate(self._rows_file, len(self._rows) * self._row_bytes)

    def _take(self, facts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Takes in the facts that hold: rows up to the first one that is missing or damaged, and every file."""
        sums = self._checksums()
        kept = []
        for fact in facts:
            if "file" in fact:
                self._files[fact["file"]] = (fact["size"], fact["mtime_ns"], fact["image"])
            elif fact["row"] == len(self._rows) < len(sums) and sums[fact["row"]] == fact["crc"]:
                self._rows[fact["image"]] = fact["row"]
            else:
                continue
            kept.append(fact)
        return kept

    def _checksums(self) -> list[int]:
        """crc32 of every whole row on the disk."""
        if not self._rows_file.exists():
            return []
        sums = []
        with self._rows_file.open("rb") as file:
            while len(row := file.read(self._row_bytes)) == self._row_bytes:
                sums.append(zlib.crc32(row))
        return sums


def _line(fact: dict[str, Any]) -> bytes:
    text = json.dumps(fact, sort_keys=True, separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _fact(line: bytes) -> dict[str, Any] | None:
    """What a line says; None when it is damaged."""
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    fact: dict[str, Any] = json.loads(text)
    return fact


def _sha256(path: Path) -> str:
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            hashed.update(block)
    return hashed.hexdigest()


def _write_at(path: Path, offset: int, data: bytes, *, sync: bool = True) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        try:
            os.lseek(descriptor, offset, os.SEEK_SET)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as problem:
        raise TrainingError(f"{path}: cannot be written ({problem.strerror}); make room, then run again") from problem


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        os.close(descriptor)
        raise TrainingError(
            f"{path.parent}: another process is writing to this feature cache; "
            "wait for it, or name another [cache] path"
        ) from problem
    return descriptor
