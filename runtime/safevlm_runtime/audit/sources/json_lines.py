"""A file of JSON lines that name image files."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from safevlm_runtime.audit.item import File, Item, Reference, Unusable, stated
from safevlm_runtime.audit.sources.source import Described
from safevlm_sdk.errors import AuditSourceError

MAX_LINE = 2**24

_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:")


@dataclass(frozen=True, slots=True)
class JsonLines:
    """Objects with `image` or `path`, relative to the file; `source` is what counts are grouped by.

    All other keys are left to their owner. An item's name is the image's and the number of the line, from 1. Empty
    lines are no items.
    """

    path: str

    def describe(self) -> Described:
        """See `Source.describe`."""
        return Described(kind="jsonl", path=self.path)

    def items(self, passed_over: Counter[str] | None = None) -> Iterator[Item]:
        """See `Source.items`.

        Raises:
            AuditSourceError: The file cannot be read.
        """
        try:
            with open(self.path, "rb") as file:
                for number, line in enumerate(_lines(file), start=1):
                    if line is None:
                        yield self._item(number, "", None, Unusable(f"the line has more than {MAX_LINE} bytes"))
                    elif line.strip():
                        yield self._parsed(number, line)
        except OSError as problem:
            raise AuditSourceError(f"{self.path}: cannot be read ({problem.strerror})") from problem

    def _parsed(self, number: int, line: bytes) -> Item:
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError) as problem:
            return self._item(number, "", None, Unusable(f"the line is no JSON ({type(problem).__name__})"))
        named = [row[key] for key in ("image", "path") if key in row] if isinstance(row, dict) else []
        if not named or not isinstance(named[0], str) or not named[0]:
            return self._item(number, "", None, Unusable("the line has no `image` or `path` that is a text"))
        return self._item(number, named[0], row.get("source"), self._reference(named[0]))

    def _reference(self, image: str) -> Reference:
        if _REMOTE.match(image):
            return Unusable("the line names an address and no file; nothing is fetched: load the image first")
        return File(os.path.join(os.path.dirname(self.path), image))

    def _item(self, number: int, image: str, source: Any, reference: Reference) -> Item:
        group = source if isinstance(source, str) and source else os.path.basename(self.path)
        return Item(name=f"{stated(image)}#{number}", source=stated(group), reference=reference)


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Lines with their ends; None in the place of one that is too long, of which no more is held at once."""
    while line := file.readline(MAX_LINE + 1):
        if len(line) <= MAX_LINE:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE)
        yield None
