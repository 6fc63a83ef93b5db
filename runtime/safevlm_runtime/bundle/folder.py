"""Reading the files of one folder through descriptors that follow no link."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safevlm_sdk.errors import BundleError, BundleLayout, BundleMissing, BundleTampered

MAX_ENTRIES = 1000
MAX_DEPTH = 8

_BLOCK = 2**24


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of the folder itself.

    Raises:
        BundleMissing: Nothing lies there.
        BundleLayout: What lies there is a link or no folder.
    """
    if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
        raise BundleError("this system cannot open files without following links; bundles load on Linux and macOS")
    try:
        folder = os.open(path, _flags() | os.O_DIRECTORY)
    except (FileNotFoundError, ValueError) as problem:
        raise BundleMissing(f"{path}: no bundle lies here; give the folder that `safevlm-export` wrote") from problem
    except OSError as problem:
        raise BundleLayout(f"{path}: is a link, no folder, or not readable ({problem.strerror})") from problem
    try:
        yield folder
    finally:
        os.close(folder)


def listing(folder: int) -> tuple[set[str], set[str]]:
    """The paths of all files and of all folders below, hidden ones included.

    Raises:
        BundleLayout: There is a link, pipe, socket or device, or there are too many entries.
    """
    files: set[str] = set()
    folders: set[str] = set()
    _list_into(folder, "", files, folders)
    return files, folders


def read_file(folder: int, path: str, *, limit: int, hardlinks: bool) -> bytes:
    """The bytes of one regular file, read once.

    Raises:
        BundleLayout: It is missing, too large, no regular file, or has a second name (unless `hardlinks`).
        BundleTampered: It changed while it was read.
    """
    with _parent_of(folder, path) as (parent, name):
        descriptor = _open(parent, name, path, _flags())
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise BundleLayout(f"{path}: is no regular file; copy the bundle again")
            if status.st_nlink != 1 and not hardlinks:
                raise BundleLayout(f"{path}: has {status.st_nlink} hard links; copy the bundle without links")
            if status.st_size > limit:
                raise BundleLayout(f"{path}: has {status.st_size} bytes; at most {limit} are read")
            return _read_all(descriptor, path, status.st_size)
        except OSError as problem:
            raise BundleLayout(f"{path}: cannot be read ({problem.strerror})") from problem
        finally:
            os.close(descriptor)


def _flags() -> int:
    # O_NONBLOCK: a pipe put in the place of a file must not make the loader wait.
    return os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def _list_into(folder: int, prefix: str, files: set[str], folders: set[str]) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            mode = entry.stat(follow_symlinks=False).st_mode
            if len(files) + len(folders) >= MAX_ENTRIES or path.count("/") >= MAX_DEPTH:
                raise BundleLayout(
                    f"more than {MAX_ENTRIES} files or {MAX_DEPTH} levels of folders; this is no bundle"
                )
            if stat.S_ISREG(mode):
                files.add(path)
            elif stat.S_ISDIR(mode):
                folders.add(path)
                below = _open(folder, entry.name, path, _flags() | os.O_DIRECTORY)
                try:
                    _list_into(below, path + "/", files, folders)
                finally:
                    os.close(below)
            else:
                raise BundleLayout(f"{path!a}: is a link, pipe, socket or device; a bundle holds plain files")


@contextmanager
def _parent_of(folder: int, path: str) -> Iterator[tuple[int, str]]:
    *parts, name = path.split("/")
    opened_here: list[int] = []
    try:
        parent = folder
        for part in parts:
            parent = _open(parent, part, path, _flags() | os.O_DIRECTORY)
            opened_here.append(parent)
        yield parent, name
    finally:
        for descriptor in opened_here:
            os.close(descriptor)


def _open(parent: int, name: str, path: str, flags: int) -> int:
    try:
        return os.open(name, flags, dir_fd=parent)
    except OSError as problem:
        found = "is a link" if problem.errno in (errno.ELOOP, errno.ENOTDIR) else problem.strerror
        raise BundleLayout(f"{path!a}: cannot be opened ({found}); copy the bundle again") from problem


def _read_all(descriptor: int, path: str, size: int) -> bytes:
    blocks, left = [], size + 1
    while left and (block := os.read(descriptor, min(left, _BLOCK))):
        blocks.append(block)
        left -= len(block)
    if left != 1:
        raise BundleTampered(f"{path}: changed its size while it was read; load again when nothing writes to it")
    return b"".join(blocks)
