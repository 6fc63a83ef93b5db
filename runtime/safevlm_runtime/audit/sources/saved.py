"""Data sets that Hugging Face's `datasets` saved to disk; that library is not needed to read them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from safevlm_runtime.audit.columns import arrow_table, image_column
from safevlm_runtime.audit.item import ArrowCell, Item, Unusable, stated
from safevlm_runtime.audit.sources.source import Described
from safevlm_sdk.errors import AuditSourceError, ItemUnusable

STATE, SPLITS = "state.json", "dataset_dict.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """The rows of a saved data set, split after split; an item's name has the number of its row in its file, from 0.

    Attributes:
        path: The folder that `save_to_disk` wrote.
        files: (name, path) of each Arrow file.
        column: The column that holds the images; None for the only one that could.
    """

    path: str
    files: tuple[tuple[str, str], ...]
    column: str | None

    def describe(self) -> Described:
        """See `Source.describe`."""
        return Described(kind="dataset", path=self.path, column=self.column)

    def items(self, passed_over: Counter[str] | None = None) -> Iterator[Item]:
        """See `Source.items`."""
        for name, path in self.files:
            file = stated(name)
            try:
                table = arrow_table(path)
                column, rows = image_column(table.schema, self.column), table.num_rows
                del table
            except (ItemUnusable, AuditSourceError) as problem:
                yield Item(name=f"{file}#", source=file, reference=Unusable(str(problem)))
                continue
            for row in range(rows):
                yield Item(name=f"{file}#{row}", source=file, reference=ArrowCell(path, column, row))


def is_saved(folder: str) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return any(os.path.isfile(os.path.join(folder, name)) for name in (STATE, SPLITS))


def saved_files(folder: str) -> tuple[tuple[str, str], ...]:
    """(name, path) of the Arrow files of a saved data set, or of all splits of several, in their order.

    Raises:
        AuditSourceError: What lists them cannot be read, or names something outside the folder.
    """
    if os.path.isfile(os.path.join(folder, SPLITS)):
        splits = _listed(os.path.join(folder, SPLITS), lambda read: read["splits"])
        return tuple(
            (f"{split}/{name}", path) for split in splits for name, path in saved_files(os.path.join(folder, split))
        )
    names = _listed(os.path.join(folder, STATE), lambda read: [entry["filename"] for entry in read["_data_files"]])
    return tuple((name, os.path.join(folder, name)) for name in names)


def _listed(path: str, names_in: Any) -> list[str]:
    try:
        with open(path, "rb") as file:
            names = list(names_in(json.loads(file.read())))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise AuditSourceError(
            f"{path}: is not as `save_to_disk` writes it ({type(problem).__name__}); save the data set anew"
        ) from problem
    for name in names:
        if not isinstance(name, str) or name in ("", ".", "..") or os.path.basename(name) != name or "\0" in name:
            raise AuditSourceError(f"{path}: names {name!r}, which is no file or folder beside it")
    return names
