"""Which icons show a risky object: the table of labels, and the files that it names."""

from __future__ import annotations

import csv
from pathlib import Path

from safevlm_sdk.errors import DataError

from .values import Icon

COLUMNS = ("icon", "label", "reason")
LABELS = ("risky", "harmless", "unused")


def read_icons(folder: Path, table: Path) -> tuple[Icon, ...]:
    """List the icons below a folder that the table calls risky or harmless, sorted by path.

    The first folder below `folder` names the family; the file's name is looked up in the table. Icons that the table
    calls unused, or does not name, are passed over: what nobody judged gets no label.

    Raises:
        DataError: The table is not valid, or the folder has no family with risky and harmless icons.
        OSError: The table cannot be read.
    """
    labels = read_labels(table)
    found: list[Icon] = []
    for path in sorted(folder.rglob("*.png")):
        label, reason = labels.get(path.name, ("unused", ""))
        if label != "unused":
            found.append(Icon(path=path, family=_family(path, folder), risky=label == "risky", reason=reason))
    both = {icon.family for icon in found if icon.risky} & {icon.family for icon in found if not icon.risky}
    if not both:
        raise DataError(
            f"{folder}: no family has both a risky and a harmless icon by {table}, which names {len(found)} "
            "of its .png files; give a folder FAMILY/ICON.png of icons that stand in the table"
        )
    return tuple(icon for icon in found if icon.family in both)


def read_labels(table: Path) -> dict[str, tuple[str, str]]:
    """Read file name to label and reason from a table with the columns `icon`, `label` and `reason`.

    Raises:
        DataError: The table is not valid.
        OSError: It cannot be read.
    """
    labels: dict[str, tuple[str, str]] = {}
    with table.open(encoding="utf-8", newline="") as opened:
        reader = csv.reader(opened, delimiter="\t")
        if tuple(next(reader, ())) != COLUMNS:
            raise DataError(f"{table}: the first line must name the columns {', '.join(COLUMNS)}, divided by tabs")
        for row in reader:
            where = f"{table}:{reader.line_num}"
            if len(row) != len(COLUMNS) or not all(row):
                raise DataError(f"{where}: {row} must be an icon's file name, its label and a reason")
            icon, label, reason = row
            if label not in LABELS:
                raise DataError(f"{where}: the label {label!r} is none of {', '.join(LABELS)}; write one of them")
            if icon in labels:
                raise DataError(f"{where}: {icon} is named twice; keep one of its rows")
            labels[icon] = (label, reason)
    return labels


def _family(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else folder.resolve().name
