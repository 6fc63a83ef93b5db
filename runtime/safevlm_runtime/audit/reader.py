"""From an item's reference to the bytes of its image."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from safevlm_runtime.audit.columns import arrow_table, cell_bytes, parquet_column
from safevlm_runtime.audit.item import ArrowCell, File, Item, ParquetCell, Slice, Unusable
from safevlm_sdk.errors import ImageTooLarge, ImageUnreadable, ItemUnusable
from safevlm_sdk.raster import Limits
from safevlm_sdk.raster.source import read_source

_COLUMNS_HELD = 2


class Reader:
    """Reads the bytes of items, from any thread.

    Of tables it keeps the row groups that were asked for last, for neighbours lie in the same.

    Args:
        limits: Of an item no more than `max_bytes` are read.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._columns: OrderedDict[tuple[str, str, int | None], Any] = OrderedDict()

    def read(self, item: Item) -> bytes:
        """The encoded bytes of an item's image; nothing is decoded, and nothing is fetched.

        Raises:
            ImageError: They cannot be read, or are too many.
            ItemUnusable: The item names no image.
        """
        reference = item.reference
        if isinstance(reference, Unusable):
            raise ItemUnusable(reference.problem)
        if isinstance(reference, File):
            data = read_source(reference.path, self._limits)
            if not isinstance(data, bytes):
                raise ImageUnreadable("the file gave no bytes; check the file")
            return data
        if isinstance(reference, Slice):
            return self._slice(reference)
        return cell_bytes(self._column(reference), reference.row, self._limits.max_bytes)

    def close(self) -> None:
        """Lets go of the tables that it holds."""
        with self._lock:
            self._columns.clear()

    def _slice(self, part: Slice) -> bytes:
        if part.size > self._limits.max_bytes:
            raise ImageTooLarge(
                f"the encoded image has {part.size} bytes; up to {self._limits.max_bytes} are read: "
                "compress or resize it"
            )
        try:
            with open(part.path, "rb") as file:
                file.seek(part.offset)
                data = file.read(part.size)
        except OSError as problem:
            raise ImageUnreadable(f"the archive could not be read ({problem.strerror}); check the file") from problem
        if len(data) < part.size:
            raise ImageUnreadable(f"the archive ends after {len(data)} of {part.size} bytes; copy it anew")
        return data

    def _column(self, cell: ParquetCell | ArrowCell) -> Any:
        """The values among which a cell lies; read by one thread, while the others wait for it."""
        key = (cell.path, cell.column, cell.group if isinstance(cell, ParquetCell) else None)
        with self._lock:
            if key not in self._columns:
                while len(self._columns) >= _COLUMNS_HELD:
                    self._columns.popitem(last=False)
                self._columns[key] = _read_column(cell)
            self._columns.move_to_end(key)
            return self._columns[key]


def _read_column(cell: ParquetCell | ArrowCell) -> Any:
    if isinstance(cell, ParquetCell):
        return parquet_column(cell.path, cell.column, cell.group)
    return arrow_table(cell.path).column(cell.column)
