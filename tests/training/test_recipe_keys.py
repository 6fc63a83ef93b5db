"""The table of docs/training.md names every key of a recipe with its type and default, and no other key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from safevlm_training.recipe import Recipe

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
HEAD = "| where | key | type | default | meaning |"
PLAIN = {
    msgspec.inspect.StrType: "text",
    msgspec.inspect.IntType: "whole number",
    msgspec.inspect.FloatType: "number",
    msgspec.inspect.BoolType: "`true` or `false`",
}


def struct_of(kind: Any) -> tuple[Any, bool] | None:
    """A struct, and whether an array of them is meant; None for a plain value."""
    if isinstance(kind, msgspec.inspect.UnionType):
        (kind,) = [one for one in kind.types if not isinstance(one, msgspec.inspect.NoneType)]
    if isinstance(kind, msgspec.inspect.StructType):
        return kind, False
    if isinstance(kind, msgspec.inspect.VarTupleType) and isinstance(kind.item_type, msgspec.inspect.StructType):
        return kind.item_type, True
    return None


def type_of(kind: Any) -> str:
    if isinstance(kind, msgspec.inspect.UnionType):
        (kind,) = [one for one in kind.types if not isinstance(one, msgspec.inspect.NoneType)]
    if isinstance(kind, msgspec.inspect.LiteralType):
        return ", ".join(f"`{json.dumps(value)}`" for value in kind.values)
    if isinstance(kind, msgspec.inspect.VarTupleType):
        return f"list of {type_of(kind.item_type)}s"
    if isinstance(kind, msgspec.inspect.DictType):
        return f"table of {type_of(kind.value_type)}s"
    return PLAIN[type(kind)]


def default_of(field: Any) -> str:
    if field.required:
        return "required"
    return "none" if field.default is None else f"`{json.dumps(field.default)}`"


def keys(struct: Any, place: str) -> Iterator[tuple[str, str, str, str]]:
    """(where, key, type, default) of every plain value below a struct."""
    for field in struct.fields:
        inner = struct_of(field.type)
        if inner is None:
            where = f"`{place}`" if place else "top, above every table"
            yield where, f"`{field.encode_name}`", type_of(field.type), default_of(field)
        else:
            name = f"{place.strip('[]')}.{field.encode_name}".lstrip(".")
            yield from keys(inner[0], f"[[{name}]]" if inner[1] else f"[{name}]")


def rows_of(page: str) -> list[list[str]]:
    lines = page.partition(f"{HEAD}\n")[2].splitlines()[1:]
    table = lines[: next(number for number, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def test_the_table_names_every_key_and_no_other() -> None:
    rows = rows_of(PAGE.read_text(encoding="utf-8"))
    wanted = set(keys(msgspec.inspect.type_info(Recipe), ""))
    assert len(wanted) > 60
    assert [row for row in rows if len(row) != 5 or not row[4]] == []
    assert sorted(tuple(row[:4]) for row in rows) == sorted(wanted)
