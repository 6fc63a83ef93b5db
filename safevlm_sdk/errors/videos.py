"""A video cannot be judged."""

from __future__ import annotations

from .base import SafeVLMError


class VideoError(SafeVLMError):
    """A video cannot be judged."""

    code = "video_invalid"


class VideoFormat(VideoError):
    """The container, its codec or its streams are not on the allow-list."""

    code = "video_format"


class VideoTooLong(VideoError):
    """The video takes more samples than are judged."""

    code = "video_too_long"


class VideoCorrupt(VideoError):
    """The video is truncated or damaged, or its times run backwards."""

    code = "video_corrupt"
