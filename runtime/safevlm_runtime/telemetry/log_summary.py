"""Reading decision logs: what was decided how often, and which lines are none."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safevlm_runtime.telemetry.record import RECORD_SCHEMA
from safevlm_sdk.errors import OptionError

COUNTED = ("entry", "action", "observed", "category", "error")


@dataclass(slots=True, kw_only=True)
class Summary:
    """What one or several files hold.

    Attributes:
        lines: That are records.
        broken: File and number, from 1, of each line that is none.
        first: Time of the earliest record.
        last: Time of the latest.
        counts: Key to value to number of records; null values are left out.
        went_on_failed: Images that went on although the gate had failed.
    """

    lines: int = 0
    broken: list[str] = field(default_factory=list)
    first: str | None = None
    last: str | None = None
    counts: dict[str, dict[str, int]] = field(default_factory=lambda: {key: {} for key in COUNTED})
    went_on_failed: int = 0

    def add(self, record: dict[str, Any]) -> None:
        """Counts one record."""
        self.lines += 1
        self.first = min(self.first or record["time"], record["time"])
        self.last = max(self.last or record["time"], record["time"])
        for key in COUNTED:
            value = record[key]
            if value is not None:
                self.counts[key][value] = self.counts[key].get(value, 0) + 1
        self.went_on_failed += record["error"] is not None and not record["blocked"]


def summarise(paths: Iterable[Path]) -> Summary:
    """Reads whole files; lines of spaces alone count as nothing.

    Raises:
        OptionError: A file cannot be read.
    """
    summary = Summary()
    for path in paths:
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    record = _record(line)
                    if record is not None:
                        summary.add(record)
                    elif line.strip():
                        summary.broken.append(f"{path}:{number}")
        except OSError as problem:
            raise OptionError(
                f"{path}: cannot be read ({problem.strerror}); give files of the decision log"
            ) from problem
    return summary


def _record(line: bytes) -> dict[str, Any] | None:
    """The line's record, or None when it is none: cut, edited, or of another schema."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict) or found.get("schema") != RECORD_SCHEMA:
        return None
    words = [found.get(key, 0) for key in COUNTED]
    whole = isinstance(found.get("time"), str) and isinstance(found.get("blocked"), bool)
    return found if whole and all(word is None or isinstance(word, str) for word in words) else None
