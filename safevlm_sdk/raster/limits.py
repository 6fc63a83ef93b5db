"""What an image may cost before it is refused: every limit is finite by default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from safevlm_sdk.errors import ImageDimensions, ImageMultiFrame, ImageTooManyPixels, OptionError

Size: TypeAlias = tuple[int, int]
"""(width, height) in pixels."""

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF")
"""The formats that can be read at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on one image; the last three hold in an `IsolatedDecoder` only.

    Attributes:
        max_bytes: Of the encoded image.
        max_pixels: Of one frame.
        max_total_pixels: Of all frames together.
        min_side: Shortest side, in pixels.
        max_side: Longest side, in pixels.
        max_aspect: Longer side over shorter side.
        max_frames: Of an animation, when all frames are judged.
        formats: A subset of `FORMATS`; the bytes decide what a file is, never its name.
        frames: "one" refuses a second frame, "all" judges every frame.
        mpo: What happens to a JPEG that carries further pictures: refused, or all of them judged.
        decode_seconds: Wall time of one image.
        decode_cpu_seconds: CPU time of one image.
        decode_memory_bytes: Address space beyond what the idle decoder has.
    """

    max_bytes: int = 10 * 2**20
    max_pixels: int = 25_000_000
    max_total_pixels: int = 50_000_000
    min_side: int = 8
    max_side: int = 12_000
    max_aspect: float = 20.0
    max_frames: int = 32
    formats: tuple[str, ...] = FORMATS
    frames: Literal["one", "all"] = "one"
    mpo: Literal["refuse", "judge"] = "refuse"
    decode_seconds: float = 3.0
    decode_cpu_seconds: int = 2
    decode_memory_bytes: int = 2**30

    def __post_init__(self) -> None:
        for name in (
            "max_bytes",
            "max_pixels",
            "max_total_pixels",
            "min_side",
            "max_side",
            "max_aspect",
            "max_frames",
            "decode_seconds",
            "decode_cpu_seconds",
            "decode_memory_bytes",
        ):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise OptionError(f"the image limit {name} is {value}; give a finite number above 0")
        if not self.formats or not set(self.formats) <= set(FORMATS):
            raise OptionError(f"the image formats are {self.formats}; choose from {', '.join(FORMATS)}")
        if self.frames not in ("one", "all") or self.mpo not in ("refuse", "judge"):
            raise OptionError(
                f"frames is {self.frames!r} and mpo is {self.mpo!r}; "
                "frames is 'one' or 'all', mpo is 'refuse' or 'judge'"
            )


DEFAULT_LIMITS: Final = Limits()


def check_size(size: Size, limits: Limits) -> None:
    """Refuse one frame by its sides, aspect ratio or area.

    Raises:
        ImageDimensions: A side or the aspect ratio is out of bounds.
        ImageTooManyPixels: The area is above `max_pixels`.
    """
    width, height = size
    short, long = min(size), max(size)
    if short < limits.min_side or long > limits.max_side:
        raise ImageDimensions(
            f"the image is {width} x {height}; sides from {limits.min_side} to {limits.max_side} pixels "
            "are judged: resize it"
        )
    if long > short * limits.max_aspect:
        raise ImageDimensions(
            f"the image is {width} x {height}; sides up to {limits.max_aspect:g} to 1 are judged: cut it into pieces"
        )
    if width * height > limits.max_pixels:
        raise ImageTooManyPixels(
            f"the image is {width} x {height}, {width * height} pixels; "
            f"up to {limits.max_pixels} are judged: resize it"
        )


def check_sizes(sizes: Sequence[Size], limits: Limits) -> None:
    """Refuse an image by the sizes of its frames, before any of them is decoded.

    Raises:
        ImageDimensions: A side or the aspect ratio of a frame is out of bounds.
        ImageTooManyPixels: The area of a frame or of all frames is above its limit.
    """
    for size in set(sizes):
        check_size(size, limits)
    total = sum(width * height for width, height in sizes)
    if total > limits.max_total_pixels:
        raise ImageTooManyPixels(
            f"the {len(sizes)} frames have {total} pixels together; "
            f"up to {limits.max_total_pixels} are judged: send fewer or smaller frames"
        )


def check_count(found: int, limits: Limits) -> None:
    """Refuse more frames than are judged; `found` may be a lower bound.

    Raises:
        ImageMultiFrame: There are more.
    """
    if limits.frames == "one" and found > 1:
        raise ImageMultiFrame(
            "the image has more than one frame; still images are judged: "
            "send the frame that is meant, or set frames = 'all'"
        )
    if found > limits.max_frames:
        raise ImageMultiFrame(
            f"the image has {found} frames or more; up to {limits.max_frames} are judged: send fewer"
        )
