"""Which frames of a video are judged: the first, then one per interval, and always the last."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from safevlm_sdk.errors import OptionError, VideoCorrupt, VideoTooLong

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How densely a video is judged.

    Attributes:
        every_seconds: Length of an interval; the first frame of each is judged.
        max_frames: A video that takes more is refused: it is never judged in part, or more thinly.
    """

    every_seconds: float = 1.0
    max_frames: int = 64

    def __post_init__(self) -> None:
        if not 0 < self.every_seconds < math.inf or self.max_frames < 1:
            raise OptionError(
                f"every_seconds is {self.every_seconds} and max_frames is {self.max_frames}; give a finite time "
                "above 0, and at least 1 frame"
            )


def sampled(frames: Iterable[tuple[float, T]], sampling: Sampling) -> Iterator[tuple[float, T]]:
    """Yields the frames that are judged, with their seconds counted from the first frame.

    Args:
        frames: (seconds, frame) in the order of their presentation.
        sampling: The rule.

    Raises:
        VideoCorrupt: Times do not grow: the frames between two samples could be any number.
        VideoTooLong: There are more samples than `max_frames`.
    """
    first = last = due = 0.0
    count = 0
    skipped: tuple[float, T] | None = None
    for seconds, frame in frames:
        if not count:
            first = seconds
        elif seconds <= last:
            raise VideoCorrupt(f"a frame at {seconds:.3f} s follows one at {last:.3f} s; encode the video again")
        last, at = seconds, seconds - first
        if at < due:
            skipped = (at, frame)
            continue
        count += 1
        _check_count(count, sampling)
        yield at, frame
        skipped, due = None, sampling.every_seconds * (math.floor(at / sampling.every_seconds) + 1)
    if skipped is not None:
        _check_count(count + 1, sampling)
        yield skipped


def _check_count(count: int, sampling: Sampling) -> None:
    if count > sampling.max_frames:
        raise VideoTooLong(
            f"the video takes more than {sampling.max_frames} frames at one per {sampling.every_seconds:g} s; "
            "send a shorter one, or raise max_frames or every_seconds"
        )
