"""What `--data` names: a folder, a folder whose images all have one label, or JSON lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safevlm_sdk.errors import DataError, OptionError
from safevlm_sdk.taxonomy import SAFE
from safevlm_training.data import BadRow, Example, Labels
from safevlm_training.readers import read_folder, read_jsonl


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A place that holds labelled images.

    Attributes:
        name: For reports; unique among the sources that were parsed together, without a slash.
        path: A folder, or a .jsonl file.
        category: Of every image below the folder; None: folders or rows name theirs.
    """

    name: str
    path: Path
    category: str | None


def parse_sources(values: Sequence[str]) -> tuple[Source, ...]:
    """Reads `PATH` or `CATEGORY=FOLDER`, as in `safe=photos/`; a path with "=" in it is written `./a=b`.

    Raises:
        OptionError: Nothing lies there, or a category is given to JSON lines.
    """
    found: list[Source] = []
    for value in values:
        label, equals, rest = value.partition("=")
        labelled = bool(equals) and label.isidentifier() and label.islower()
        path = Path(rest if labelled else value)
        if not (path.is_dir() or (path.is_file() and path.suffix == ".jsonl")):
            raise OptionError(
                f"{value}: there is no folder and no .jsonl file at {path}; write FOLDER, FILE.jsonl, or "
                "CATEGORY=FOLDER for a folder whose images all have one label"
            )
        if labelled and path.is_file():
            raise OptionError(f"{value}: the rows of JSON lines name their categories; leave {label}= out")
        name = _unused(path.resolve().stem if path.is_file() else path.resolve().name, [one.name for one in found])
        found.append(Source(name=name, path=path, category=label if labelled else None))
    return tuple(found)


def read_rows(
    sources: Sequence[Source], labels: Labels, judged: Sequence[str]
) -> tuple[tuple[Example, ...], tuple[BadRow, ...]]:
    """Reads every source; each row comes back as an example or as a bad row.

    Args:
        sources: Where the rows are.
        labels: Which categories a row may carry.
        judged: The risks that the policy wants; a row of another one could not be judged right.

    Raises:
        DataError: A source cannot be read at all, or nothing usable is left.
    """
    rows: list[Example | BadRow] = []
    for source in sources:
        try:
            rows += _read(source, labels)
        except OSError as problem:
            raise DataError(f"{source.path} cannot be read ({problem.strerror})") from problem
    rows = [_wanted(row, judged) if isinstance(row, Example) else row for row in rows]
    examples = tuple(row for row in rows if isinstance(row, Example))
    bad = tuple(row for row in rows if isinstance(row, BadRow))
    if not examples:
        first = f"; the first of {len(bad)} bad rows: {bad[0].where}: {bad[0].reason}" if bad else ""
        raise DataError(f"{', '.join(str(source.path) for source in sources)}: no labelled image was found{first}")
    return examples, bad


def _read(source: Source, labels: Labels) -> list[Example | BadRow]:
    if source.category is not None:
        try:
            labels.check(source.category, None)
        except ValueError as problem:
            raise DataError(f"{source.category}={source.path}: {problem}") from problem
    if source.path.is_dir():
        return list(read_folder(source.path, source.name, labels, category=source.category))
    return list(read_jsonl(source.path, source.name, labels))


def _wanted(example: Example, judged: Sequence[str]) -> Example | BadRow:
    if example.category == SAFE or example.category in judged:
        return example
    reason = f"category {example.category!r} is switched off by the policy; give a policy that has actions for it"
    return BadRow(where=example.where, reason=reason)


def _unused(name: str, taken: Sequence[str]) -> str:
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate
