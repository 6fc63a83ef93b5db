"""What a video may cost before it is refused: every limit is finite by default."""

from __future__ import annotations

from dataclasses import dataclass, fields

from safevlm_sdk.errors import OptionError


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoLimits:
    """Bounds on one video; those on its sides and pixels are the image limits of the runtime.

    Attributes:
        max_bytes: Of the file.
        decode_seconds: Wall time of decoding, without the time in which frames are judged.
        decode_cpu_seconds: CPU time of decoding.
        decode_memory_bytes: Address space of the decoding child beyond what it has before it sees the file.
    """

    max_bytes: int = 100 * 2**20
    decode_seconds: float = 60.0
    decode_cpu_seconds: int = 60
    decode_memory_bytes: int = 2**30

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < float("inf"):
                raise OptionError(f"the video limit {field.name} is {value}; give a finite number above 0")
