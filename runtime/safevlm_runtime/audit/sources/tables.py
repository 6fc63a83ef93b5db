"""Parquet files with a column of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from safevlm_runtime.audit.columns import parquet_groups
from safevlm_runtime.audit.item import Item, ParquetCell, Unusable, stated
from safevlm_runtime.audit.sources.source import Described
from safevlm_sdk.errors import AuditSourceError, ItemUnusable


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The rows of Parquet files, in order; an item's name has the number of its row within the file, from 0.

    Attributes:
        path: As it was given: a file, a folder of them, or a pattern with braces.
        files: (name, path) of each file.
        column: The column that holds the images; None for the only one that could.
    """

    path: str
    files: tuple[tuple[str, str], ...]
    column: str | None

    def describe(self) -> Described:
        """See `Source.describe`."""
        return Described(kind="parquet", path=self.path, column=self.column)

    def items(self, passed_over: Counter[str] | None = None) -> Iterator[Item]:
        """See `Source.items`."""
        for name, path in self.files:
            file = stated(name)
            try:
                column, groups = parquet_groups(path, self.column)
            except (ItemUnusable, AuditSourceError) as problem:
                yield Item(name=f"{file}#", source=file, reference=Unusable(str(problem)))
                continue
            before = 0
            for group, rows in enumerate(groups):
                for row in range(rows):
                    cell = ParquetCell(path, column, group, row)
                    yield Item(name=f"{file}#{before + row}", source=file, reference=cell)
                before += rows
