"""The decoding child: reads one encoded image after the other, and answers with rasters.

It starts with what its parent gave it, takes its own rights away, and only then sees untrusted bytes.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import sys
from typing import BinaryIO, Final

from PIL import Image

from safevlm_sdk.errors import ImageError
from safevlm_sdk.raster import wire
from safevlm_sdk.raster.canonical import Frame
from safevlm_sdk.raster.decode import boundary, open_source
from safevlm_sdk.raster.limits import Limits

_PR_SET_NO_NEW_PRIVS: Final = 38
_OPEN_FILES: Final = 16


def main() -> None:
    """Serve on standard input and output until the parent closes them."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that a library prints may end up among the replies
    give_up_rights(int(sys.argv[2]))
    send(replies, {"ready": True})
    while prefix := requests.read(wire.LENGTH.size):
        request = wire.unpack(requests.read(*wire.LENGTH.unpack(prefix)))
        data = requests.read(request["bytes"])
        options = request["limits"]
        limits = Limits(**{**options, "formats": tuple(options["formats"])})
        budget_cpu_seconds(limits.decode_cpu_seconds)
        answer(replies, data, limits, request["max_side"])


def answer(replies: BinaryIO, data: bytes, limits: Limits, max_side: int | None) -> None:
    """Send the raster of one image: a header, then each frame; or an error instead of any of them."""
    try:
        with boundary():
            opened = open_source(data, limits, max_side)
            send(
                replies,
                {"format": opened.format, "size": list(opened.source_size), "frames": opened.count},
            )
            for frame in opened.frames:
                send_frame(replies, frame)
    except ImageError as error:
        send(replies, {"error": error.code, "message": str(error)})


def give_up_rights(memory: int) -> None:
    """Forbid writing files, many open files, core dumps, new privileges and more memory than `memory` beyond now.

    The bound on memory and the ban on new privileges exist on Linux alone.
    """
    Image.preinit()
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[0])
        _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + memory)


def budget_cpu_seconds(seconds: int) -> None:
    """Let the kernel end this process once it has used so many more seconds of CPU time."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = math.ceil(usage.ru_utime + usage.ru_stime)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (_capped(used + seconds, hard), hard))


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (_capped(value, hard),) * 2)


def _capped(value: int, hard: int) -> int:
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def send(replies: BinaryIO, header: dict[str, object]) -> None:
    """Send a header."""
    replies.write(wire.pack(header))
    replies.flush()


def send_frame(replies: BinaryIO, frame: Frame, **more: object) -> None:
    """Send the header of a frame, with what else is to be said of it, and its pixels."""
    height, width, _ = frame.pixels.shape
    send(replies, {"height": height, "width": width, "variants": [name for name, _ in frame.variants], **more})
    for pixels in (frame.pixels, *(variant for _, variant in frame.variants)):
        replies.write(pixels.data)
    replies.flush()
