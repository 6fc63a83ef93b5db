"""Engines that were built on this host: outside of any bundle, each authenticated with a key of this host.

An engine is native code. Whoever can read the key can write engines, so the key is for its owner alone; the code says
nothing of an attacker who already is that user.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec

from safevlm_sdk.atomic import publish_file
from safevlm_sdk.errors import EngineBuildError, ManifestError
from safevlm_sdk.manifest import Engine
from safevlm_sdk.strict import canonical_json, from_json

KEY_FILE = "host.key"
KEY_BYTES = 32
MAX_ENTRY_BYTES = 4 * 2**30

_MAGIC = b"safevlm-engine-1\n"
_TAG = 32
_LENGTH = 8
_TIMING = "timing"


def default_folder() -> Path:
    """Where engines of this user lie: below XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base if os.path.isabs(base) else Path.home() / ".cache") / "safevlm" / "engines"


class HostCache:
    """A folder of engines that this host built; what is not exactly what it built is never given out."""

    def __init__(self, folder: Path | None = None) -> None:
        """Opens the folder, and makes it and its key if they are not there.

        Raises:
            EngineBuildError: The folder or its key is open to others, or cannot be used.
        """
        self._folder = default_folder() if folder is None else folder
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_private(self._folder, "folder", stat.S_ISDIR, 0o022)
            self._key = self._read_key()
        except OSError as problem:
            raise EngineBuildError(
                f"{self._folder}: the cache for engines cannot be used ({problem.strerror}); set XDG_CACHE_HOME to a "
                "folder of yours"
            ) from problem

    def engine(self, wanted: Engine) -> bytes | None:
        """The bytes of an engine, or None if exactly this one was not built here before.

        Args:
            wanted: What the engine must be; its size is not compared.
        """
        found = self._read(_name(wanted))
        if found is None:
            return None
        header, data = found
        try:
            entry = from_json(header, Engine, error=ManifestError, where="the cache")
        except ManifestError:
            return None
        return data if entry == msgspec.structs.replace(wanted, size=len(data)) else None

    def keep(self, entry: Engine, data: bytes) -> None:
        """Keeps an engine that was just built; an older one of the same graph and GPU goes.

        Raises:
            EngineBuildError: It cannot be written.
        """
        self._write(_name(entry), canonical_json(entry), data)

    def timing(self, version: str, capability: str) -> bytes:
        """What earlier builds measured with this version on such a GPU; empty if there were none."""
        found = self._read(_TIMING)
        return b"" if found is None or found[0] != _measured_on(version, capability) else found[1]

    def keep_timing(self, version: str, capability: str, data: bytes) -> None:
        """Keeps what a build measured.

        Raises:
            EngineBuildError: It cannot be written.
        """
        self._write(_TIMING, _measured_on(version, capability), data)

    def _read_key(self) -> bytes:
        path = self._folder / KEY_FILE
        if not path.exists():
            # A link to a complete file: of two processes that start together, one makes the key and both read it.
            draft = path.with_name(f"{KEY_FILE}.{secrets.token_hex(8)}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.write(descriptor, secrets.token_bytes(KEY_BYTES))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                os.unlink(draft)
        _require_private(path, "key", stat.S_ISREG, 0o077)
        key = _read_whole(path, KEY_BYTES)
        if key is None or len(key) != KEY_BYTES:
            raise EngineBuildError(f"{path}: is no key of {KEY_BYTES} bytes; remove it, and engines are built anew")
        return key

    def _tag(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, sha256).digest()

    def _read(self, name: str) -> tuple[bytes, bytes] | None:
        found = _read_whole(self._folder / name, MAX_ENTRY_BYTES)
        start = len(_MAGIC) + _TAG
        if found is None or len(found) < start + _LENGTH or not found.startswith(_MAGIC):
            return None
        body = found[start:]
        if not hmac.compare_digest(found[len(_MAGIC) : start], self._tag(body)):
            return None
        length = int.from_bytes(body[:_LENGTH], "big")
        return body[_LENGTH : _LENGTH + length], body[_LENGTH + length :]

    def _write(self, name: str, header: bytes, data: bytes) -> None:
        body = len(header).to_bytes(_LENGTH, "big") + header + data
        publish_file(self._folder / name, _MAGIC + self._tag(body) + body, error=EngineBuildError)


def _name(entry: Engine) -> str:
    """One name for all versions of an engine, so that a new one replaces an old one."""
    lasting = [entry.onnx_sha256, entry.flavor, *entry.compute_capabilities]
    return sha256(canonical_json(lasting)).hexdigest()[:32] + ".engine"


def _measured_on(version: str, capability: str) -> bytes:
    return canonical_json([version, capability])


def _require_private(path: Path, what: str, is_kind: Callable[[int], bool], forbidden: int) -> None:
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    if os.name != "posix" and is_kind(status.st_mode):
        return  # access lists say who may read there, and the profile's folder is the user's
    if not is_kind(status.st_mode) or status.st_uid != os.getuid() or mode & forbidden:
        raise EngineBuildError(
            f"{path}: the {what} of the cache for engines is a link, another user's, or open to others (mode "
            f"{mode:o}); an engine is native code: remove it, or set XDG_CACHE_HOME to a folder of yours"
        )


def _read_whole(path: Path, limit: int) -> bytes | None:
    """The bytes of a regular file of at most `limit` bytes; None for anything else."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            return None
        return file.read(limit + 1)
