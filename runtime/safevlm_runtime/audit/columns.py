"""Images in columns of Parquet and Arrow tables; pyarrow is imported here and in `parquet.py`, when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from safevlm_sdk.errors import AuditSourceError, ImageTooLarge, ItemUnusable, MissingExtra

T = TypeVar("T")

_USUAL_NAME = "image"


def pyarrow(module: str = "pyarrow") -> Any:
    """A module of pyarrow.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as problem:
        raise MissingExtra("pyarrow", "audit") from problem


def parquet_groups(path: str, column: str | None) -> tuple[str, list[int]]:
    """The image column of a Parquet file, and how many rows each of its row groups has.

    Raises:
        ItemUnusable: The file cannot be read.
        AuditSourceError: It has no such column.
    """
    with _readable(lambda: pyarrow("pyarrow.parquet").ParquetFile(path)) as file:
        name = image_column(file.schema_arrow, column)
        return name, [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]


def parquet_column(path: str, column: str, group: int) -> Any:
    """The values of one row group."""

    def read() -> Any:
        with pyarrow("pyarrow.parquet").ParquetFile(path) as file:
            return file.read_row_group(group, columns=[column], use_threads=False).column(column)

    return _readable(read)


def arrow_table(path: str) -> Any:
    """A file of Arrow's streaming format, mapped into memory and checked.

    Raises:
        ItemUnusable: It cannot be read.
    """

    def read() -> Any:
        arrow = pyarrow()
        table = arrow.ipc.open_stream(arrow.memory_map(path, "r")).read_all()
        table.validate(full=True)  # offsets of a hostile file would lead elsewhere
        return table

    return _readable(read)


def image_column(schema: Any, wanted: str | None) -> str:
    """The column that holds images: bytes, or a struct of bytes and path.

    Raises:
        AuditSourceError: There is none, or no way to tell which of several is meant.
    """
    found = [field.name for field in schema if _holds_bytes(field.type)]
    if wanted is not None:
        if wanted not in found:
            raise AuditSourceError(f"no column {wanted!r} holds images; these could: {', '.join(found) or 'none'}")
        return wanted
    if len(found) == 1 or _USUAL_NAME in found:
        return _USUAL_NAME if _USUAL_NAME in found else found[0]
    if found:
        raise AuditSourceError(f"several columns could hold images: {', '.join(found)}; name one with --column")
    raise AuditSourceError(
        f"no column holds images (bytes, or a struct with `bytes`); there are: {', '.join(schema.names) or 'none'}"
    )


def cell_bytes(column: Any, row: int, max_bytes: int) -> bytes:
    """The encoded bytes of one value.

    Raises:
        ItemUnusable: There is no such row, or it holds no bytes.
        ImageTooLarge: There are more than `max_bytes`; they are not copied.
    """
    if row >= len(column):
        raise ItemUnusable(f"row {row} is not there any more; do not change the data set while it is audited")
    value = column[row]
    if hasattr(value, "keys") and value.is_valid:
        value = value["bytes"]
    if not value.is_valid:
        raise ItemUnusable("the row holds no bytes of an image; paths and addresses in tables are not followed")
    buffer = value.as_buffer()
    if buffer.size > max_bytes:
        raise ImageTooLarge(
            f"the encoded image has {buffer.size} bytes; up to {max_bytes} are read: compress or resize it"
        )
    data: bytes = buffer.to_pybytes()
    return data


def _holds_bytes(kind: Any) -> bool:
    types = pyarrow("pyarrow.types")
    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _readable(read: Callable[[], T]) -> T:
    arrow = pyarrow()
    try:
        return read()
    except (OSError, ValueError, KeyError, arrow.ArrowException) as problem:
        raise ItemUnusable(f"the table cannot be read ({type(problem).__name__}); copy or write it anew") from problem
