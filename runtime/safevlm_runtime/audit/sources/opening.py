"""From a path to a source."""

from __future__ import annotations

import itertools
import os
import re

from safevlm_runtime.audit.columns import arrow_table, image_column, parquet_groups
from safevlm_runtime.audit.sources.folder import Folder, walk
from safevlm_runtime.audit.sources.json_lines import JsonLines
from safevlm_runtime.audit.sources.saved import Saved, is_saved, saved_files
from safevlm_runtime.audit.sources.shards import Shards
from safevlm_runtime.audit.sources.source import IMAGE_ENDINGS, Kind, Source
from safevlm_runtime.audit.sources.tables import Tables
from safevlm_sdk.errors import AuditSourceError, ItemUnusable

TABLE, SHARD, LINES = (".parquet",), (".tar",), (".jsonl", ".ndjson")
MOST_FILES = 1_000_000

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def open_source(path: str, kind: Kind | None = None, column: str | None = None) -> Source:
    """Finds out what lies at a path.

    Args:
        path: A folder or file; or files as `shard-{000..012}.tar`.
        kind: What to take it for, where that is in doubt: as a folder with both images and Parquet files.
        column: Of tables: the column that holds the images, where several could.

    Raises:
        AuditSourceError: It is not there, is of no kind that can be audited, or of more than one.
        MissingExtra: It is a table, and pyarrow is not installed.
    """
    path = os.path.abspath(path)
    if not os.path.exists(path):
        if not _RANGE.search(path):
            raise AuditSourceError(f"{path}: is not there; give a folder, .jsonl, .parquet or .tar")
        above = os.path.dirname(_RANGE.split(path)[0])  # a range in a folder's name tells files of one name apart
        files = tuple((os.path.relpath(one, above), one) for one in _expanded(path))
        return _of_files(path, kind or _kind_of_file(path), files, column)
    if os.path.isfile(path):
        return _of_files(path, kind or _kind_of_file(path), ((os.path.basename(path), path),), column)
    if not os.path.isdir(path):
        raise AuditSourceError(
            f"{path}: is neither a file nor a folder; write what it gives into a file, and audit it"
        )
    kind = kind or _kind_of_folder(path)
    if kind == "folder":
        return Folder(path)
    if kind == "jsonl":
        raise AuditSourceError(f"{path}: is a folder; give the file of JSON lines in it")
    if kind == "dataset":
        return _checked(Saved(path=path, files=saved_files(path), column=column))
    return _of_files(path, kind, tuple(_found(path, TABLE if kind == "parquet" else SHARD)), column)


def _of_files(path: str, kind: Kind, files: tuple[tuple[str, str], ...], column: str | None) -> Source:
    if kind == "jsonl" and len(files) == 1:
        return JsonLines(files[0][1])
    if not files:
        raise AuditSourceError(f"{path}: holds no file of the kind {kind}; give another folder, or another --kind")
    if kind == "tar":
        return Shards(path=path, shards=files)
    if kind == "parquet":
        return _checked(Tables(path=path, files=files, column=column))
    if kind == "jsonl":
        raise AuditSourceError(f"{path}: means {len(files)} files; audit each file of JSON lines by itself")
    raise AuditSourceError(
        f"{path}: is no folder, and cannot be read as {kind}; give the folder, or leave out --kind"
    )


def _checked(source: Tables | Saved) -> Source:
    """The source, if the first of its files has the column; those that cannot be read get a row each."""
    for _, file in source.files[:1]:
        try:
            if isinstance(source, Tables):
                parquet_groups(file, source.column)
            else:
                image_column(arrow_table(file).schema, source.column)
        except AuditSourceError as problem:
            raise AuditSourceError(f"{file}: {problem}") from problem
        except ItemUnusable:
            continue
    return source


def _kind_of_file(path: str) -> Kind:
    ending = os.path.splitext(path)[1].lower()
    kinds: dict[tuple[str, ...], Kind] = {TABLE: "parquet", SHARD: "tar", LINES: "jsonl"}
    for endings, kind in kinds.items():
        if ending in endings:
            return kind
    if ending in IMAGE_ENDINGS:
        raise AuditSourceError(f"{path}: is one image; give its folder, or run: safevlm check")
    raise AuditSourceError(
        f"{path}: is neither .jsonl, .parquet nor .tar; unpack what is compressed, or name what it is with --kind"
    )


def _kind_of_folder(folder: str) -> Kind:
    """What a folder is by the files in it, of which all of one kind must be audited or none."""
    if is_saved(folder):
        return "dataset"
    seen: dict[Kind, str] = {}
    for _, name, found in walk(folder):
        ending = os.path.splitext(name)[1].lower()
        if not isinstance(found, OSError) and ending in (*TABLE, *SHARD, *IMAGE_ENDINGS):
            seen.setdefault("parquet" if ending in TABLE else "tar" if ending in SHARD else "folder", name)
    if len(seen) > 1:
        examples = ", ".join(f"{kind} ({name})" for kind, name in sorted(seen.items()))
        raise AuditSourceError(
            f"{folder}: holds more than one kind of source: {examples}; say which to audit with --kind, and audit "
            "the others by themselves"
        )
    return next(iter(seen), "folder")


def _found(folder: str, endings: tuple[str, ...]) -> list[tuple[str, str]]:
    """(path below the folder, path) of the files with an ending; no link to a folder is entered.

    Raises:
        AuditSourceError: A folder cannot be looked into, and what is in it would be left out.
    """
    files = []
    for path, name, found in walk(folder):
        if isinstance(found, OSError):
            raise AuditSourceError(f"{path}: cannot be looked into ({found.strerror}); check its permissions")
        if name.lower().endswith(endings) and os.path.isfile(path):
            files.append((name, path))
    return files


def _expanded(pattern: str) -> list[str]:
    """The paths that a pattern with ranges in braces means; all of them must be there."""
    parts = _RANGE.split(pattern)
    ranges = [_numbers(first, last) for first, last in zip(parts[1::3], parts[2::3], strict=True)]
    count = 1
    for numbers in ranges:
        count *= len(numbers)
    if not 0 < count <= MOST_FILES:
        raise AuditSourceError(f"{pattern}: means {count} files; ranges count up, and mean at most {MOST_FILES}")
    texts = parts[0::3]
    paths = []
    for chosen in itertools.product(*ranges):
        paths.append(texts[0] + "".join(number + text for number, text in zip(chosen, texts[1:], strict=True)))
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise AuditSourceError(f"{pattern}: {len(missing)} of {count} files are not there, the first is {missing[0]}")
    return paths


def _numbers(first: str, last: str) -> list[str]:
    """From `000` to `012`, as wide as the first."""
    if int(last) - int(first) > MOST_FILES:
        raise AuditSourceError(f"{{{first}..{last}}} means more than {MOST_FILES} files")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
