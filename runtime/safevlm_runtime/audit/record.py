"""`audit.json`: what an audit was made of, and whether it is finished."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from safevlm_runtime.audit.judge import Judge
from safevlm_runtime.audit.sources.source import Described, Kind
from safevlm_sdk.atomic import publish_file
from safevlm_sdk.errors import AuditError, AuditMismatch
from safevlm_sdk.strict import Strict, canonical_json, from_json
from safevlm_sdk.version import __version__

RECORD = "audit.json"

_SAME = {
    "schema": "format", "source": "source", "bundle_digests": "bundle", "policy_digests": "policy",
    "provider": "provider", "precision": "precision", "hash_hook": "hash hook",
}  # fmt: skip


class SourceRecord(Strict, frozen=True):
    """As `Described`; of a path that is not UTF-8, bytes are escaped."""

    kind: Kind
    path: str
    column: str | None


class Finished(Strict, frozen=True):
    """How an audit ended.

    Attributes:
        rows: Lines of `verdicts.jsonl`.
        size: Its bytes.
        judged: Rows that were made since the audit was last started.
        seconds: How long these took.
        passed_over: What was met in the source and is no item, by kind: files that are no images, links to folders.
    """

    rows: int
    size: int
    judged: int
    seconds: float
    passed_over: dict[str, int]


class AuditRecord(Strict, frozen=True):
    """What an audit was made of; an audit that is gone on with must be made of the same.

    Attributes:
        schema: The version of this folder's formats.
        safevlm: The version of the SDK that began the audit.
        source: What is audited.
        bundles: Names.
        bundle_digests: One per bundle.
        policies: Names, one per bundle.
        policy_digests: Likewise.
        covered: The risks that are looked for.
        uncovered: The risks that some policy wants and no bundle covers.
        provider: The execution provider in use.
        precision: That was asked for, or None.
        hash_hook: `module:function`, or None.
        isolate_decoding: Images are decoded in a child process.
        finished: None while the audit is not finished.
    """

    schema: Literal[1]
    safevlm: str
    source: SourceRecord
    bundles: tuple[str, ...]
    bundle_digests: tuple[str, ...]
    policies: tuple[str, ...]
    policy_digests: tuple[str, ...]
    covered: tuple[str, ...]
    uncovered: tuple[str, ...]
    provider: str
    precision: str | None
    hash_hook: str | None
    isolate_decoding: bool
    finished: Finished | None


def record_of(source: Described, judge: Judge) -> AuditRecord:
    """The record of an audit that begins."""
    runtime, settings = judge.runtime, judge.settings
    return AuditRecord(
        schema=1,
        safevlm=__version__,
        source=SourceRecord(kind=source.kind, path=_unicode(source.path), column=source.column),
        bundles=runtime.bundles,
        bundle_digests=runtime.digests,
        policies=tuple(policy.name for policy in runtime.policies),
        policy_digests=tuple(policy.digest for policy in runtime.policies),
        covered=runtime.covered,
        uncovered=runtime.uncovered,
        provider=runtime.provider,
        precision=settings.precision,
        hash_hook=settings.hash_hook,
        isolate_decoding=settings.isolate_decoding,
        finished=None,
    )


def read_record(folder: Path) -> AuditRecord | None:
    """The record in a folder, if there is one.

    Raises:
        AuditError: It cannot be read.
    """
    path = folder / RECORD
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise AuditError(f"{path}: cannot be read ({problem.strerror})") from problem
    return from_json(data, AuditRecord, error=AuditError, where=str(path))


def write_record(folder: Path, record: AuditRecord) -> None:
    """Puts the record in place as a whole.

    Raises:
        AuditError: It cannot be written.
    """
    publish_file(folder / RECORD, canonical_json(record), error=AuditError)


def require_same(old: AuditRecord, new: AuditRecord, folder: Path) -> None:
    """Checks that an audit can be gone on with.

    Raises:
        AuditMismatch: It is another one's, and of what.
    """
    for name, what in _SAME.items():
        before, now = (_said(getattr(one, name)) for one in (old, new))
        if before != now:
            raise AuditMismatch(
                f"{folder}: holds an audit with another {what}: {before}, and here {now}; name another folder with "
                "--out, or give what it was begun with"
            )


def _said(value: SourceRecord | tuple[str, ...] | str | int | None) -> str:
    """For a message."""
    if isinstance(value, SourceRecord):
        return f"{value.kind} {value.path}" + ("" if value.column is None else f", column {value.column}")
    return ", ".join(value) if isinstance(value, tuple) else "none" if value is None else str(value)


def path_of(source: SourceRecord) -> str:
    """Where a source lies: the escapes in its path are bytes again, unless they are the path's own."""
    if os.path.exists(source.path):
        return source.path
    return re.sub(r"\\u(dc[89a-f][0-9a-f])", lambda found: chr(int(found[1], 16)), source.path)


def _unicode(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode("utf-8")
