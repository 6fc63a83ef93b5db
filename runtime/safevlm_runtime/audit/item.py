"""One image of a source: its name, and a small reference from which its bytes can be had in any process."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class File:
    """A file of its own."""

    path: str


@dataclass(frozen=True, slots=True)
class Slice:
    """Bytes of a file, as those of a member of a tar archive that is not compressed."""

    path: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class ParquetCell:
    """A value in a Parquet file; `row` counts within the row group."""

    path: str
    column: str
    group: int
    row: int


@dataclass(frozen=True, slots=True)
class ArrowCell:
    """A value in a file of Arrow's streaming format; `row` counts within the file."""

    path: str
    column: str
    row: int


@dataclass(frozen=True, slots=True)
class Unusable:
    """What names no image, as a line that is no JSON, and what is wrong with it."""

    problem: str


Reference = File | Slice | ParquetCell | ArrowCell | Unusable


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One image of a source; it can be pickled.

    Attributes:
        name: Unique and stable within the source; `path` of its row. It is valid Unicode: see `stated`.
        source: The folder, shard or named source that counts are grouped by.
        reference: Where its bytes are.
    """

    name: str
    source: str
    reference: Reference


def stated(name: str) -> str:
    r"""A name from a file system or a file as text that every JSON and Parquet reader takes.

    A byte that is not UTF-8 becomes `\xNN`, half a surrogate pair `\uNNNN` and a backslash two, so that no two names
    become one.
    """
    return re.sub(r"[\\\ud800-\udfff]", _escaped, name)


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    if found[0] == "\\":
        return "\\\\"
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\u{number:04x}"
