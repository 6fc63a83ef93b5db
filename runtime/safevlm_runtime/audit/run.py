"""An audit from its first item to its last, or from wherever it was interrupted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import msgspec

from safevlm_runtime.audit.hashes import HashIndex
from safevlm_runtime.audit.item import Item
from safevlm_runtime.audit.journal import VERDICTS, Journal
from safevlm_runtime.audit.judge import Judge, Known, renamed
from safevlm_runtime.audit.parquet import PARQUET, write_parquet
from safevlm_runtime.audit.pool import Pool
from safevlm_runtime.audit.record import (
    RECORD,
    AuditRecord,
    Finished,
    read_record,
    record_of,
    require_same,
    write_record,
)
from safevlm_runtime.audit.row import Row
from safevlm_runtime.audit.sources import Source
from safevlm_sdk.errors import AuditError, AuditStopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """How someone follows an audit, and stops it.

    Attributes:
        done: Told after each row how many there are.
        stop: Asked after each row; True ends the audit with a clean journal.
    """

    done: Callable[[int], None] = lambda rows: None
    stop: Callable[[], bool] = lambda: False


def run_audit(
    source: Source, out: Path, judge: Judge, make_pool: Callable[[Known], Pool], watching: Watching | None = None
) -> bool:
    """Makes `out`, with a row for every item of the source; goes on with what is there of the same audit.

    Args:
        source: What is audited.
        out: The audit's own folder, outside of the source.
        judge: Says under what the audit is made; may be the one that the pool uses.
        make_pool: Makes the pool; given what knows the rows that bytes have already. The pool is closed in the end.
        watching: Whoever follows it.

    Returns:
        False if the audit was finished before, and nothing was judged.

    Raises:
        AuditMismatch: The folder holds another audit, or the source has changed since.
        AuditBusy: Another process is at it.
        AuditStopped: `watching.stop` said so; the same call goes on from there.
        AuditError: It cannot be written, or there is something else in the folder.
    """
    watching = Watching() if watching is None else watching
    described = source.describe()
    _require_outside(out, described.path)
    record = record_of(described, judge)
    with Journal(out) as journal:
        known = _begun(out, record, journal)
        if known.finished is not None:
            _check_whole(known.finished, journal)
        else:
            write_record(
                out, msgspec.structs.replace(known, finished=_judged(source, out, journal, make_pool, watching))
            )
        if known.finished is None or not (out / PARQUET).exists():
            write_parquet(journal.path, out / PARQUET)
    return known.finished is None


def _begun(out: Path, record: AuditRecord, journal: Journal) -> AuditRecord:
    """The record of the audit in a folder, which is this one; written if there is none."""
    old = read_record(out)
    if old is not None:
        require_same(old, record, out)
        if old.finished is None and old.isolate_decoding is not record.isolate_decoding:
            old = msgspec.structs.replace(old, isolate_decoding=record.isolate_decoding)
            write_record(out, old)
        return old
    if journal.size:
        raise AuditError(f"{out}: has verdicts of an audit, but no {RECORD} that tells which; name another --out")
    write_record(out, record)
    return record


def _judged(
    source: Source, out: Path, journal: Journal, make_pool: Callable[[Known], Pool], watching: Watching
) -> Finished:
    """Gives every item that has no row yet one."""
    passed_over: Counter[str] = Counter()
    items = source.items(passed_over)
    with HashIndex(out, journal.path) as hashes:
        before = _replayed(items, journal, hashes, watching)
        rows, start = before, monotonic()
        with closing(make_pool(hashes.first)) as pool:
            for row in pool.rows(items):
                _append(row, journal, hashes)
                rows += 1
                watching.done(rows)
                _check_stop(watching, rows)
        seconds = monotonic() - start
    journal.sync()
    return Finished(
        rows=rows,
        size=journal.size,
        judged=rows - before,
        seconds=round(seconds, 3),
        passed_over=dict(sorted(passed_over.items())),
    )


def _replayed(items: Iterator[Item], journal: Journal, hashes: HashIndex, watching: Watching) -> int:
    """Takes in the rows that are there; says how many."""
    rows = 0
    for row, begin, size in journal.replay(items):
        if row.sha256 is not None and row.duplicate_of is None:
            hashes.add(row.sha256, begin, size)
        rows += 1
        _check_stop(watching, rows)
    watching.done(rows)
    return rows


def _append(row: Row, journal: Journal, hashes: HashIndex) -> None:
    """Writes a row; one of bytes that have a row already as a copy of that."""
    first = None if row.sha256 is None else hashes.first(row.sha256)
    if first is not None:
        journal.append(renamed(first, row.path, row.source, first.path))
        return
    begin, size = journal.append(row)
    if row.sha256 is not None:
        hashes.add(row.sha256, begin, size)


def _check_stop(watching: Watching, rows: int) -> None:
    if watching.stop():
        raise AuditStopped(f"stopped after {rows} items, all of which are kept; run the same command again to go on")


def _check_whole(finished: Finished, journal: Journal) -> None:
    if journal.size != finished.size:
        raise AuditError(
            f"{journal.path}: has {journal.size} bytes, {finished.size} when the audit was finished; it was changed: "
            "audit anew, with another --out"
        )


def _require_outside(out: Path, source: str) -> None:
    """Checks that the audit does not become a part of what it looks at."""
    inner, outer = os.path.realpath(out), os.path.realpath(source)
    if os.path.isdir(outer) and os.path.commonpath([inner, outer]) == outer:
        raise AuditError(f"{out}: lies within the source {source}; name a folder outside of it with --out")
    if outer in (os.path.join(inner, name) for name in (VERDICTS, PARQUET)):
        raise AuditError(f"{source}: would be written over; name another folder with --out")
