"""`report.html`: what an audit found, from what lies in its folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import msgspec

from safevlm_runtime.audit.journal import VERDICTS
from safevlm_runtime.audit.picks import Picks, pick
from safevlm_runtime.audit.reader import Reader
from safevlm_runtime.audit.record import AuditRecord, path_of, read_record
from safevlm_runtime.audit.report_page import render_page
from safevlm_runtime.audit.row import Row, row_of
from safevlm_runtime.audit.sources import open_source
from safevlm_runtime.audit.summary import Summary, summarise
from safevlm_runtime.audit.thumbnails import thumbnails_of
from safevlm_sdk.atomic import publish_file
from safevlm_sdk.errors import AuditError
from safevlm_sdk.raster import IsolatedDecoder, Limits, decode

REPORT = "report.html"
RASTER_SIDE = 512


def write_report(folder: Path, *, thumbnails: bool = False) -> Summary:
    """Writes the page of a finished audit, which needs no network and no other file.

    Args:
        folder: Of the audit: `verdicts.jsonl` and `audit.json`.
        thumbnails: Show the worst of the flagged images, small and blurred; what the hash hook named is never
            shown. The source is read again for it.

    Returns:
        The counts that the page shows.

    Raises:
        AuditError: There is no finished audit, or the page cannot be written.
    """
    record = read_record(folder)
    if record is None or record.finished is None:
        raise AuditError(f"{folder}: holds no finished audit; run safevlm audit with this --out")
    verdicts = folder / VERDICTS
    summary, picks = summarise(read_rows(verdicts)), pick(read_rows(verdicts))
    pictures = _pictures(record, picks) if thumbnails else None
    page = render_page(record, summary, picks, pictures)
    publish_file(folder / REPORT, page.encode("utf-8", "backslashreplace"), error=AuditError)
    return summary


def read_rows(verdicts: Path) -> Iterator[Row]:
    """The rows of `verdicts.jsonl`, one at a time.

    Raises:
        AuditError: The file cannot be read, or a line is no row.
    """
    try:
        with verdicts.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield _row(line, f"{verdicts}: line {number}")
    except OSError as problem:
        raise AuditError(f"{verdicts}: cannot be read ({problem.strerror})") from problem


def _row(line: bytes, place: str) -> Row:
    try:
        return row_of(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise AuditError(f"{place} is no row ({problem}); audit anew, with another --out") from problem


def _pictures(record: AuditRecord, picks: Picks) -> dict[str, str]:
    source = open_source(path_of(record.source), record.source.kind, record.source.column)
    with (
        closing(Reader(Limits())) as reader,
        IsolatedDecoder() if record.isolate_decoding else nullcontext() as child,
    ):
        decoder = decode if child is None else child.decode
        return thumbnails_of(
            source.items(), picks.flagged, reader.read, lambda data: decoder(data, max_side=RASTER_SIDE)
        )
