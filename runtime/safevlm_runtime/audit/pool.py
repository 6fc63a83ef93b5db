"""Where the work of an audit is done: on the threads of this process, or elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from safevlm_runtime.audit.item import Item
from safevlm_runtime.audit.row import Row


class Pool(Protocol):
    """Turns items into rows.

    Rows come in the order of the items and equal those of `Judge.row`, which judges each item alone: so every pool
    gives the same rows. `duplicate_of` is left None; whoever takes the rows sets it.
    """

    def rows(self, items: Iterable[Item]) -> Iterator[Row]:
        """One row per item, in order; takes items as it needs them, some ahead of the rows that it gave."""
        ...

    def close(self) -> None:
        """Ends the workers; what they were doing is lost."""
        ...
