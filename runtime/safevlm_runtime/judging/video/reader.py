"""From a video's untrusted bytes to its sampled frames, by way of a child process with limited means."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO, Final, TypeAlias

from safevlm_runtime.judging.video.limits import VideoLimits
from safevlm_runtime.judging.video.sampling import Sampling
from safevlm_sdk.errors import (
    DecodeTimeout,
    ImageError,
    ImageInput,
    MissingExtra,
    OptionError,
    SafeVLMError,
    VideoError,
    VideoFormat,
)
from safevlm_sdk.raster import Frame, Limits, read_source
from safevlm_sdk.raster.child_process import ChildProcess
from safevlm_sdk.raster.isolated import nonsense, receive_frame

VideoSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""A path, encoded bytes, or a binary file."""

_CHILD: Final = "safevlm_runtime.judging.video.child"
_ERRORS: Final = {kind.code: kind for base in (ImageError, VideoError) for kind in base.__subclasses__()}
_STILL: Final = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"crx ")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VideoFrame:
    """A frame that is judged, and its time from the first frame on."""

    seconds: float
    frame: Frame


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpenedVideo:
    """A video's bytes, told by their container; iterating `frames` decodes them, once.

    Attributes:
        source_sha256: Of the bytes.
        frames: Closing the iterator ends the decoding.
    """

    source_sha256: str
    frames: Generator[VideoFrame, None, None]


def container_of(head: bytes) -> str | None:
    """What a file is by its first bytes: "mov" (MP4, MOV), "matroska" (Matroska, WebM), or None for no video."""
    if head[4:8] == b"ftyp":
        return None if head[8:12] in _STILL else "mov"
    return "matroska" if head[:4] == b"\x1a\x45\xdf\xa3" else None


def is_video(head: bytes) -> bool:
    """Whether the first 12 bytes of a file are those of a video that can be judged."""
    return container_of(head) is not None


def open_video(
    source: VideoSource,
    sampling: Sampling,
    *,
    limits: VideoLimits,
    image_limits: Limits,
    max_side: int | None,
) -> OpenedVideo:
    """Read a video and start decoding the frames that are judged.

    Args:
        source: A path, encoded bytes, or a binary file; it is read once.
        sampling: Which frames.
        limits: What the video may cost.
        image_limits: What each frame may cost.
        max_side: Longer side of the frames, in pixels: larger ones are shrunk.

    Raises:
        MissingExtra: PyAV is not installed.
        OptionError: The platform cannot limit a process.
        ImageError: There is nothing to read, or too much of it; decoding raises it for frames out of bounds.
        VideoError: The video cannot be judged.
    """
    if importlib.util.find_spec("av") is None:
        raise MissingExtra("av", "video")
    if importlib.util.find_spec("resource") is None:
        raise OptionError("this platform cannot limit a process (no `resource` module): videos are not judged on it")
    data = read_source(source, replace(image_limits, max_bytes=limits.max_bytes))
    if not isinstance(data, bytes):
        raise ImageInput(f"a {type(source).__name__} is no video; pass a path, bytes or a binary file")
    container = container_of(data[:12])
    if container is None:
        raise VideoFormat("the file is neither MP4 or MOV nor Matroska or WebM; encode it as one of them")
    request = {
        "bytes": len(data),
        "format": container,
        "cpu_seconds": limits.decode_cpu_seconds,
        "sampling": asdict(sampling),
        "limits": asdict(image_limits),
        "max_side": max_side,
    }
    return OpenedVideo(
        source_sha256=hashlib.sha256(data).hexdigest(), frames=_decoded(data, request, limits, image_limits)
    )


def _decoded(
    data: bytes, request: dict[str, Any], limits: VideoLimits, image_limits: Limits
) -> Generator[VideoFrame, None, None]:
    child = ChildProcess(limits.decode_memory_bytes, _CHILD)
    try:
        yield from _received(child, data, request, limits, image_limits)
    except DecodeTimeout as error:
        raise DecodeTimeout(
            f"decoding the video took longer than {limits.decode_seconds:g} s, or than {limits.decode_cpu_seconds} s "
            "of a processor; send a shorter or smaller one"
        ) from error
    finally:
        child.end()


def _received(
    child: ChildProcess, data: bytes, request: dict[str, Any], limits: VideoLimits, image_limits: Limits
) -> Generator[VideoFrame, None, None]:
    """Take in frames; a child that was taken over may say anything, so all of it is checked."""
    started = time.monotonic()
    child.deadline = started + limits.decode_seconds
    child.send(request, data)
    for count in range(request["sampling"]["max_frames"] + 1):
        head = child.receive_header()
        if "error" in head:
            raise _named(head)
        if head.get("end") == count > 0:
            return
        seconds = head.get("seconds")
        if not isinstance(seconds, float | int) or not math.isfinite(seconds):
            raise nonsense()
        frame = receive_frame(child, count, head, image_limits)
        waiting = time.monotonic()
        yield VideoFrame(seconds=float(seconds), frame=frame)
        child.deadline += time.monotonic() - waiting  # judging is not decoding
    raise nonsense()


def _named(head: dict[str, Any]) -> SafeVLMError:
    kind = _ERRORS.get(str(head["error"]))
    return nonsense() if kind is None else kind(str(head.get("message")))
