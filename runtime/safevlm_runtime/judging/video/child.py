"""The child that decodes one video: it gives up its rights, reads the bytes, and answers with the sampled frames."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, NoReturn

import av
from PIL import Image

from safevlm_runtime.judging.video.sampling import Sampling, sampled
from safevlm_sdk.errors import SafeVLMError, VideoCorrupt, VideoFormat
from safevlm_sdk.raster import wire
from safevlm_sdk.raster.canonical import Frame, frame_from_image
from safevlm_sdk.raster.child import budget_cpu_seconds, give_up_rights, send, send_frame
from safevlm_sdk.raster.limits import Limits, check_size

CODECS: Final = ("av1", "h264", "hevc", "mpeg4", "vp8", "vp9")
_ORIENTATIONS: Final = {0: 1, 90: 8, -90: 6, 180: 3, -180: 3}
"""Degrees counterclockwise that a frame is to be turned by, to the EXIF orientation that means the same."""


def main() -> None:
    """Serve one video on standard input and output."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that a library prints may end up among the replies
    give_up_rights(int(sys.argv[2]))
    send(replies, {"ready": True})
    request = wire.unpack(requests.read(*wire.LENGTH.unpack(requests.read(wire.LENGTH.size))))
    data = requests.read(request["bytes"])
    budget_cpu_seconds(request["cpu_seconds"])
    try:
        answer(replies, data, request)
    except SafeVLMError as error:
        send(replies, {"error": error.code, "message": str(error)})


def answer(replies: BinaryIO, data: bytes, request: dict[str, Any]) -> None:
    """Send the sampled frames of a video, each with its second, and a header that ends them."""
    options = request["limits"]
    limits = Limits(**{**options, "formats": tuple(options["formats"])})
    try:
        index = 0
        for index, (seconds, frame) in enumerate(
            sampled(_frames(data, request["format"], limits), Sampling(**request["sampling"])), 1
        ):
            send_frame(replies, _canonical(index, frame, request["max_side"]), seconds=seconds)
        if not index:
            raise VideoCorrupt("the video has no frame; send the whole file")
        send(replies, {"end": index})
    except SafeVLMError:
        raise
    except Exception as error:  # a decoder fails in any way it likes
        raise VideoCorrupt(
            f"the video is truncated or damaged ({type(error).__name__}); send the whole file, or encode it again"
        ) from error


def _frames(data: bytes, container: str, limits: Limits) -> Iterator[tuple[float, av.VideoFrame]]:
    """Every frame with its time; nothing but these bytes is opened, whatever the file asks for."""
    with av.open(io.BytesIO(data), mode="r", format=container, io_open=_refuse) as opened:
        streams = opened.streams.video
        if len(streams) != 1:
            raise VideoFormat(f"the video has {len(streams)} streams of pictures; one is judged: send it alone")
        context = streams[0].codec_context
        if context.codec.canonical_name not in CODECS:
            raise VideoFormat(
                f"the video's codec is {context.codec.canonical_name}; {', '.join(CODECS)} are judged: "
                "encode it again"
            )
        check_size((context.width, context.height), limits)
        # The decoder itself must refuse what grows behind the header, before it takes memory for it.
        context.options = {"max_pixels": str(limits.max_pixels)}
        context.thread_count = 1
        for frame in opened.decode(streams[0]):
            check_size((frame.width, frame.height), limits)
            if frame.time is None:
                raise VideoCorrupt("a frame has no time; encode the video again")
            yield frame.time, frame


def _canonical(index: int, frame: av.VideoFrame, max_side: int | None) -> Frame:
    """The frame upright, over every background if it has transparent pixels."""
    turned = _ORIENTATIONS.get(frame.rotation)
    if turned is None:
        raise VideoFormat(
            f"the video is turned by {frame.rotation} degrees; quarter turns are judged: encode it upright"
        )
    layout = "rgba" if any(part.is_alpha for part in frame.format.components) else "rgb24"
    return frame_from_image(index, Image.fromarray(frame.to_ndarray(format=layout)), turned, max_side)


def _refuse(url: str, flags: int, options: object) -> NoReturn:
    raise VideoFormat("the video refers to another file; send one that holds all of its pictures")
