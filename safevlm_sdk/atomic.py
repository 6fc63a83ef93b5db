"""Files and folders that hold the old content or the new one, never a mix, even when the process is killed.

New content is written beside its destination, synced to the disk, and put in place by one rename or exchange.
A process that dies before leaves a hidden sibling behind, `.<name>.safevlm-<16 hex digits>`; the next publication
of the same name removes it. A lock on the sibling tells what was left behind from what is still being written;
where the file system knows no such lock, siblings stay.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safevlm_sdk.errors import SafeVLMError

if sys.platform != "win32":
    import fcntl

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)


def require_publishable(
    out: Path, replaceable: Callable[[Path], bool] | None = None, *, error: type[SafeVLMError] = SafeVLMError
) -> None:
    """Checks that publishing to `out` would throw nothing away; call it before long work, too.

    Args:
        out: The destination. That nothing is there, or an empty folder, is always fine.
        replaceable: Says whether a folder that is not empty may be replaced; None: it may not.
        error: What to raise.

    Raises:
        SafeVLMError: Of type `error`: a file, a link, or a folder that may not be replaced is in the way.
    """
    out = Path(os.path.abspath(out))
    try:
        mode = os.lstat(out).st_mode
        if not stat.S_ISDIR(mode):
            kind = "a link" if stat.S_ISLNK(mode) else "not a folder"
            raise error(f"{out}: is {kind}; give the path of a folder, or one that does not exist yet")
        empty = not os.listdir(out)
    except FileNotFoundError:
        return
    except OSError as problem:
        raise error(f"{out}: cannot be looked into ({problem.strerror})") from problem
    if not empty and not (replaceable and replaceable(out)):
        raise error(f"{out}: holds other files, which would be lost; name another folder, or remove this one first")


def publish_folder(
    out: Path,
    fill: Callable[[Path], None],
    *,
    replaceable: Callable[[Path], bool] | None = None,
    error: type[SafeVLMError] = SafeVLMError,
) -> None:
    """Puts a folder in place as a whole.

    Permissions become 0o755 for folders and 0o644 for files, less the umask. Replacing a folder that is not empty
    needs Linux and a file system with RENAME_EXCHANGE.

    Args:
        out: The destination; its parents are made.
        fill: Writes the content into the folder that it is given: files and folders only, no links. What it
            raises, other than OSError, passes through.
        replaceable: Says whether a folder at `out` that is not empty may be replaced; None: it may not.
        error: What to raise.

    Raises:
        SafeVLMError: Of type `error`; the message says whether the new content is in place.
    """
    out = Path(os.path.abspath(out))
    require_publishable(out, replaceable, error=error)
    try:
        if not out.parent.is_dir():
            os.makedirs(out.parent, exist_ok=True)
        with _temporary(out, os.mkdir) as temporary:
            fill(temporary)
            _settle(temporary, error)
            try:
                os.rename(temporary, out)
            except OSError as problem:
                if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                require_publishable(out, replaceable, error=error)
                _exchange(temporary, out, error)
    except OSError as problem:
        raise _not_written(out, problem, error) from problem
    try:
        _sync(out.parent)
        with suppress(FileNotFoundError):  # nothing was there before, or another publication removed it
            shutil.rmtree(temporary)
    except OSError as problem:
        raise error(f"{out}: the new content is in place, but tidying up failed ({problem.strerror})") from problem


def publish_file(path: Path, data: bytes, *, error: type[SafeVLMError] = SafeVLMError) -> None:
    """Puts a file in place as a whole, with permissions 0o644 less the umask; replaces what is there.

    Raises:
        SafeVLMError: Of type `error`; the message says whether the new content is in place.
    """
    path = Path(os.path.abspath(path))
    try:
        with _temporary(path, _make_file) as temporary:
            descriptor = os.open(temporary, os.O_WRONLY)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
    except OSError as problem:
        raise _not_written(path, problem, error) from problem
    try:
        _sync(path.parent)
    except OSError as problem:
        raise error(f"{path}: the new content is in place, but may be lost with the power ({problem})") from problem


def _not_written(out: Path, problem: OSError, error: type[SafeVLMError]) -> SafeVLMError:
    return error(f"{out}: could not be written ({problem.strerror or problem}); what was there before is untouched")


def _make_file(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))


@contextmanager
def _temporary(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A new locked sibling of `target`, removed when the block fails."""
    path = target.with_name(f".{target.name}.safevlm-{secrets.token_hex(8)}")
    lock = None
    try:
        # Whoever looks for leftovers holds the parent's lock, and so never meets a sibling not yet locked.
        parent_lock = _lock(target.parent, wait=True)
        try:
            _remove_leftovers(target)
            make(path)
            lock = _lock(path)
        finally:
            _unlock(parent_lock)
        yield path
    except BaseException:
        with suppress(OSError):
            _remove(path)
        raise
    finally:
        _unlock(lock)


def _remove_leftovers(target: Path) -> None:
    name = re.compile(re.escape(f".{target.name}.safevlm-") + "[0-9a-f]{16}")
    for entry in os.listdir(target.parent):
        if name.fullmatch(entry):
            leftover = target.with_name(entry)
            lock = _lock(leftover)
            if lock is not None:
                try:
                    _remove(leftover)
                finally:
                    _unlock(lock)


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def _lock(path: Path, *, wait: bool = False) -> int | None:
    """A descriptor that locks `path` for this process, or None when it is locked or cannot be."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, PermissionError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _unlock(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _settle(folder: Path, error: type[SafeVLMError]) -> None:
    """Sets permissions and syncs everything in `folder`, from the inside out."""
    allowed = stat.S_IMODE(os.stat(folder).st_mode)  # mkdir has applied the umask, which cannot be read safely

    def stop(problem: OSError) -> None:
        raise problem

    for place, folders, files in os.walk(folder, topdown=False, onerror=stop):
        for name in folders:
            if os.path.islink(Path(place, name)):
                raise error(f"{name}: is a link; only files and folders can be published")
        for name in files:
            path = Path(place, name)
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise error(f"{name}: is a link or a device; only files and folders can be published")
            os.chmod(path, 0o644 & allowed)
            _sync(path)
        inherited_group = stat.S_IMODE(os.lstat(place).st_mode) & stat.S_ISGID
        os.chmod(place, 0o755 & allowed | inherited_group)
        _sync(Path(place))


def _sync(path: Path) -> None:
    folder = path.is_dir()
    if folder and sys.platform == "win32":
        return  # Windows has no descriptors of folders
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(temporary: Path, out: Path, error: type[SafeVLMError]) -> None:
    """Swaps two folders in one step; afterwards the old content is at `temporary`."""
    refused = f"{out}: cannot be replaced in one step here, so nothing was changed; remove it first, or name another"
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    renameat2 = getattr(libc, "renameat2", None)
    if renameat2 is None:
        raise error(f"{refused} (this system has no renameat2)")
    renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    renameat2.restype = ctypes.c_int
    if renameat2(_AT_FDCWD, os.fsencode(temporary), _AT_FDCWD, os.fsencode(out), _RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        if code in _NO_EXCHANGE:
            raise error(f"{refused} (the file system has no RENAME_EXCHANGE)")
        raise OSError(code, os.strerror(code), str(out))
