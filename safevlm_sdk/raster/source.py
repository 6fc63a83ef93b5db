"""Taking in what a caller passes as an image, without reading more than the limits allow."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safevlm_sdk.errors import (
    ImageEmpty,
    ImageError,
    ImageInput,
    ImageNotAFile,
    ImageNotFound,
    ImageTooLarge,
    ImageUnreadable,
)
from safevlm_sdk.raster.limits import Limits

ImageSource: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[np.uint8]
)
"""A path (a str is always a path), encoded bytes, a binary file, a PIL image, or uint8 RGB pixels [H, W, 3]."""

_BLOCK: Final = 2**20
_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)  # opening a pipe without a writer must not wait
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def read_source(source: ImageSource, limits: Limits) -> bytes | Image.Image | NDArray[np.uint8]:
    """Read a path or file into bytes, and pass pixels through.

    A file object is read from where it stands. Messages never contain a path.

    Raises:
        ImageInput: The argument is of no type that can be an image.
        ImageNotFound, ImageNotAFile, ImageUnreadable: The path leads to no readable regular file.
        ImageEmpty, ImageTooLarge: There are no bytes, or more than `max_bytes`.
    """
    try:
        return _read(source, limits)
    except ImageError:
        raise
    except Exception as problem:  # a caller's own path or file object fails in any way it likes
        raise ImageInput(f"the {type(source).__name__} could not be read ({type(problem).__name__})") from problem


def _read(source: ImageSource, limits: Limits) -> bytes | Image.Image | NDArray[np.uint8]:
    if isinstance(source, (np.ndarray, Image.Image)):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _checked(_read_path(source, limits), limits)
    if isinstance(source, (bytes, bytearray, memoryview)):
        size = memoryview(source).nbytes
        if size > limits.max_bytes:
            raise _too_large(size, limits)
        return _checked(bytes(source), limits)
    if callable(getattr(source, "read", None)):
        return _checked(_read_file(source, limits), limits)
    raise ImageInput(
        f"a {type(source).__name__} is no image; pass a path, bytes, a binary file, a PIL image "
        "or a uint8 array of shape (H, W, 3)"
    )


def _read_path(path: str | os.PathLike[str], limits: Limits) -> bytes:
    try:
        descriptor = os.open(path, _FLAGS)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise _not_found(path) from error
    except OSError as error:
        if error.errno == errno.ENXIO or os.path.isdir(path):
            raise _no_file(folder=error.errno != errno.ENXIO) from error
        raise _unreadable(error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _no_file(folder=stat.S_ISDIR(status.st_mode))
        if status.st_size > limits.max_bytes:
            raise _too_large(status.st_size, limits)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return _read_file(file, limits)
    finally:
        os.close(descriptor)


def _read_file(file: BinaryIO, limits: Limits) -> bytes:
    """Read to the end, or one byte beyond the limit."""
    blocks: list[bytes] = []
    wanted = limits.max_bytes + 1
    while wanted > 0:
        try:
            block = file.read(min(wanted, _BLOCK))
        except (OSError, ValueError) as error:
            raise _unreadable(error) from error
        if block is None:
            raise ImageUnreadable("the file has no data yet; pass one that waits for its data, or bytes")
        if not isinstance(block, bytes):
            raise ImageInput(f"the file gives {type(block).__name__}, not bytes; open it in binary mode")
        if not block:
            break
        blocks.append(block)
        wanted -= len(block)
    return b"".join(blocks)


def _checked(data: bytes, limits: Limits) -> bytes:
    if not data:
        raise ImageEmpty("the image has no bytes; send the whole file")
    if len(data) > limits.max_bytes:
        raise _too_large(len(data), limits)
    return data


def _too_large(found: int, limits: Limits) -> ImageTooLarge:
    return ImageTooLarge(
        f"the encoded image has {found} bytes or more; up to {limits.max_bytes} are read: compress or resize it"
    )


def _not_found(path: str | os.PathLike[str]) -> ImageNotFound:
    data = "; image data is passed as bytes, for a string is always a path" if isinstance(path, str) else ""
    return ImageNotFound(f"no file lies at the path; check its name, and the folder that it starts from{data}")


def _no_file(*, folder: bool) -> ImageNotAFile:
    if folder:
        return ImageNotAFile("the path is a folder; pass the paths of the files in it")
    return ImageNotAFile("the path is a device, pipe or socket; pass the path of a regular file, or bytes")


def _unreadable(error: OSError | ValueError) -> ImageUnreadable:
    number = error.errno if isinstance(error, OSError) else None
    reason = type(error).__name__ if number is None else os.strerror(number)
    return ImageUnreadable(f"the image could not be read ({reason}); check the file and its permissions")
