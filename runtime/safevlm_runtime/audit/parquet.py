"""`verdicts.parquet`: the rows once more, for whoever asks questions of them."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from safevlm_runtime.audit.columns import pyarrow
from safevlm_runtime.audit.row import Row, row_of
from safevlm_sdk.errors import AuditError

PARQUET = "verdicts.parquet"
GROUP_ROWS = 10_000


def write_parquet(journal: Path, path: Path) -> None:
    """Writes all rows of a journal, a group at a time, and puts the file in place as a whole.

    Raises:
        MissingExtra: pyarrow is not installed.
        AuditError: The file cannot be written.
    """
    arrow, parquet = pyarrow(), pyarrow("pyarrow.parquet")
    schema, unfinished = _schema(arrow), path.with_name(f".{path.name}")
    try:
        with open(journal, "rb") as lines, open(unfinished, "wb") as file:
            rows = map(row_of, lines)
            with parquet.ParquetWriter(file, schema) as writer:
                while group := [_values(row) for row in islice(rows, GROUP_ROWS)]:
                    writer.write_table(arrow.Table.from_pylist(group, schema=schema))
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as problem:
        unfinished.unlink(missing_ok=True)
        raise AuditError(
            f"{path}: cannot be written ({problem.strerror or problem}); free some space, and run the same command "
            "again"
        ) from problem


def _values(row: Row) -> dict[str, Any]:
    return {**msgspec.structs.asdict(row), "action": row.action.value, "categories": list(row.categories.items())}


def _schema(arrow: Any) -> Any:
    text, number, required = arrow.string(), arrow.float64(), ("path", "source", "action", "categories", "reason")
    kinds = {name: text for name in Row.__struct_fields__}
    kinds |= {"level": arrow.int8(), "score": number, "categories": arrow.map_(text, number)}
    return arrow.schema([arrow.field(name, kind, nullable=name not in required) for name, kind in kinds.items()])
