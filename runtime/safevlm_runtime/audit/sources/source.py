"""What every kind of source has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from safevlm_runtime.audit.item import Item

Kind = Literal["folder", "jsonl", "parquet", "tar", "dataset"]

OTHER_FILES = "files that are no images"
FOLDER_LINKS = "links to folders"
ARCHIVE_LINKS = "links in archives"

# Also of formats that cannot be judged: their images get an error row, and are not left out in silence.
IMAGE_ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic",
    ".heif", ".jxl", ".jp2", ".ico",
)  # fmt: skip
HEAD = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """How a source is found again.

    Attributes:
        kind: What it is.
        path: Where it lies, absolute.
        column: Of tables: the column that holds the images, where one was named.
    """

    kind: Kind
    path: str
    column: str | None = None


class Source(Protocol):
    """Many images in one stable order."""

    def describe(self) -> Described:
        """What the source is; the same source says the same every time."""
        ...

    def items(self, passed_over: Counter[str] | None = None) -> Iterator[Item]:
        """The images, in the same order every time while the source stays the same.

        Args:
            passed_over: Counts what was met and is no item: `OTHER_FILES`, `FOLDER_LINKS`, `ARCHIVE_LINKS`.
        """
        ...


def is_image(name: str, head: bytes) -> bool:
    """Whether a file is an image, by the end of its name or by its first `HEAD` bytes, in a format that is judged."""
    if name.lower().endswith(IMAGE_ENDINGS):
        return True
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")) or (
        head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    )
