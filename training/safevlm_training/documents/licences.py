"""Where material came from and under which licence, as the folders that hold it say."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

from safevlm_sdk.errors import DataError

TABLE = "LICENSES.tsv"
"""Columns `file` (relative to the table), `package` and `licence`, divided by tabs."""

NOTES = ("SOURCE.txt", "LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING")
"""Files whose first two lines stand for the licence of everything beside and below them."""


def sources(files: Sequence[Path], folders: Sequence[Path]) -> list[dict[str, str]]:
    """List files with their SHA-256 and what is known about where they come from.

    The table and the notes are looked for in each of `folders`, one level above it, and below it beside the files.

    Raises:
        DataError: A table lacks a column.
        OSError: A file cannot be read.
    """
    known = [(folder, _table(folder)) for folder in folders]
    return [_source(file, known) for file in files]


def _source(file: Path, known: Sequence[tuple[Path, dict[Path, tuple[str, str]]]]) -> dict[str, str]:
    folder, table = next((pair for pair in known if file.is_relative_to(pair[0])), (file.parent, {}))
    entry = {
        "file": (Path(folder.name) / file.relative_to(folder)).as_posix(),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    if file.resolve() in table:
        package, licence = table[file.resolve()]
        return {**entry, "package": package, "licence": licence}
    note = _note(file, folder)
    return {**entry, "licence": note} if note else {**entry, "licence": "unknown"}


def _table(folder: Path) -> dict[Path, tuple[str, str]]:
    for place in (folder, folder.resolve().parent):
        path = place / TABLE
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as opened:
                rows = list(csv.DictReader(opened, delimiter="\t"))
            missing = {"file", "package", "licence"} - (rows[0].keys() if rows else set())
            if missing:
                raise DataError(f"{path} lacks the column {', '.join(sorted(missing))}; add it, or remove the table")
            return {(place / row["file"]).resolve(): (row["package"], row["licence"]) for row in rows}
    return {}


def _note(file: Path, folder: Path) -> str:
    top = folder.resolve().parent
    for place in file.resolve().parents:
        for name in NOTES:
            if (place / name).is_file():
                text = (place / name).read_text(encoding="utf-8", errors="replace")
                lines = [line.strip() for line in text.splitlines() if line.strip()]
                return f"{name}: {' / '.join(lines[:2])[:200]}"
        if place == top:
            return ""
    return ""
