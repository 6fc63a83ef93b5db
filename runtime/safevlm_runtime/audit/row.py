"""One row of an audit: what was said of one item."""

from __future__ import annotations

import msgspec

from safevlm_sdk.actions import Action


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of `verdicts.jsonl`.

    Attributes:
        path: The item's name, unique within the source.
        source: The folder, shard or named source that counts are grouped by.
        sha256: Of the encoded bytes, in hexadecimal; None if they could not be read.
        action: What the policy wants done with the image, also where its mode is "observe".
        category: "safe" or a risk; None where nothing was judged.
        level: 0 to 3; None where nothing was judged.
        score: Calibrated P(some judged risk), rounded to 6 digits; None where nothing was judged.
        categories: Probability of each risk that was looked for, likewise; a risk of several bundles is told apart as
            `bundle/risk`. Empty where nothing was judged.
        reason: Which threshold decided, what failed, or `hook: ` and the label.
        error: None, or the code of what failed.
        hook: What the hash hook called the image; None without a hook, and where it knows nothing of the image.
        duplicate_of: `path` of the first item with the same bytes, of whose verdict this one is a copy.
    """

    path: str
    source: str
    sha256: str | None
    action: Action
    category: str | None
    level: int | None
    score: float | None
    categories: dict[str, float]
    reason: str
    error: str | None
    hook: str | None
    duplicate_of: str | None


def row_line(row: Row) -> bytes:
    """The row as one line of UTF-8 JSON, with its newline; equal rows give equal bytes."""
    return msgspec.json.encode(row) + b"\n"


def row_of(line: bytes) -> Row:
    """Reads one line.

    Raises:
        msgspec.MsgspecError, UnicodeDecodeError: It is no row.
    """
    return msgspec.json.decode(line, type=Row, strict=True)
