"""Decoding in a child process, so that a broken decoder costs one image and not the service."""

from __future__ import annotations

import hashlib
import importlib.util
import threading
import time
from dataclasses import asdict
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.errors import DecoderDied, ImageError, OptionError
from safevlm_sdk.raster.canonical import Frame, Raster, check_max_side, frame_of
from safevlm_sdk.raster.child_process import ChildProcess
from safevlm_sdk.raster.decode import decode
from safevlm_sdk.raster.limits import DEFAULT_LIMITS, Limits, Size
from safevlm_sdk.raster.source import ImageSource, read_source

_VARIANTS: Final[tuple[list[str], ...]] = ([], ["black", "grey", "alpha-dropped"])
_ERRORS: Final = {kind.code: kind for kind in ImageError.__subclasses__()}


class IsolatedDecoder:
    """Decodes as `decode` does, but parses untrusted bytes in a child that has few rights and finite means.

    The child lives from image to image and is replaced when it dies, hangs or answers nonsense. Calls
    from several threads take turns: give each thread its own decoder to decode in parallel. Use it in a
    `with` block, or call `close`. POSIX only; the memory limit holds on Linux.

    Raises:
        OptionError: The platform cannot limit a process.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("resource") is None:
            raise OptionError("this platform cannot limit a process (no `resource` module): decode in process")
        self._lock = threading.Lock()
        self._child: ChildProcess | None = None

    def decode(self, source: ImageSource, *, limits: Limits = DEFAULT_LIMITS, max_side: int | None = None) -> Raster:
        """Decode an image into canonical RGB frames; see `safevlm_sdk.raster.decode`.

        PIL images and arrays hold no encoded bytes and are taken in this process.

        Raises:
            DecodeTimeout: It took more than `decode_seconds` or `decode_cpu_seconds`.
            DecoderDied: The child died, for want of memory or of a crash; the next image gets a fresh one.
            ImageError: The image cannot be judged; each reason has its own class.
        """
        taken = read_source(source, limits)
        if not isinstance(taken, bytes):
            return decode(taken, limits=limits, max_side=max_side)
        check_max_side(max_side)
        with self._lock:
            child = self._ready_child(limits.decode_memory_bytes)
            try:
                answer = _exchange(child, taken, limits, max_side)
            except BaseException:
                self._discard()
                raise
        if isinstance(answer, ImageError):
            raise answer
        return answer

    @property
    def pid(self) -> int | None:
        """The process id of the child, if one runs."""
        return None if self._child is None else self._child.pid

    def close(self) -> None:
        """End the child; a later image would start another."""
        with self._lock:
            self._discard()

    def __enter__(self) -> IsolatedDecoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _ready_child(self, memory: int) -> ChildProcess:
        if self._child is not None and (self._child.memory != memory or not self._child.alive()):
            self._discard()
        if self._child is None:
            self._child = ChildProcess(memory)
        return self._child

    def _discard(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None


def _exchange(child: ChildProcess, data: bytes, limits: Limits, max_side: int | None) -> Raster | ImageError:
    """Send one image and take in its raster, or the error that the child names."""
    child.deadline = time.monotonic() + limits.decode_seconds
    child.send({"bytes": len(data), "limits": asdict(limits), "max_side": max_side}, data)
    head = child.receive_header()
    if "error" in head:
        return _named(head)
    count, size = head.get("frames"), _size(head.get("size"))
    if not isinstance(count, int) or not 1 <= count <= limits.max_frames:
        raise nonsense()
    frames: list[Frame] = []
    left = limits.max_total_pixels
    for index in range(count):
        head_of_frame = child.receive_header()
        if "error" in head_of_frame:
            return _named(head_of_frame)
        frame = receive_frame(child, index, head_of_frame, limits)
        left -= frame.pixels.size // 3
        if left < 0:
            raise nonsense()
        frames.append(frame)
    return Raster(
        frames=tuple(frames),
        format=str(head.get("format")),
        source_size=size,
        source_sha256=hashlib.sha256(data).hexdigest(),
    )


def receive_frame(child: ChildProcess, index: int, head: dict[str, Any], limits: Limits) -> Frame:
    """Take in the pixels of one frame; a child that was taken over may say anything, so all of it is checked."""
    width, height = _size([head.get("width"), head.get("height")])
    names = head.get("variants")
    if names not in _VARIANTS or max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise nonsense()
    pixels = _receive_pixels(child, height, width)
    variants = tuple((name, _receive_pixels(child, height, width)) for name in names)
    return frame_of(index, pixels, variants)


def _receive_pixels(child: ChildProcess, height: int, width: int) -> NDArray[np.uint8]:
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    child.receive_into(pixels.data.cast("B"))
    pixels.flags.writeable = False
    return pixels


def _size(value: object) -> Size:
    match value:
        case [int(width), int(height)] if width > 0 and height > 0:
            return width, height
    raise nonsense()


def _named(head: dict[str, Any]) -> ImageError:
    kind = _ERRORS.get(str(head["error"]))
    return nonsense() if kind is None else kind(str(head.get("message")))


def nonsense() -> DecoderDied:
    """The error for a child that breaks the protocol."""
    return DecoderDied("the decoding process gave an answer that cannot be; the image is not judged")
