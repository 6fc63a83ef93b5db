"""What an audit says of its progress where nobody watches a bar."""

from __future__ import annotations

from safevlm_sdk.command.audit_progress import Lines


def told(steps, total=None):
    """Lines after (seconds, rows), the first of which is the start."""
    said, clock = [], iter([seconds for seconds, _ in steps])
    lines = Lines(said.append, clock=lambda: next(clock))
    if total is not None:
        lines.of(total)
    for _, rows in steps:
        lines(rows)
    return said


def test_a_line_a_minute_with_rate_and_what_is_left():
    steps = [(0, 0), (1, 100), (59.9, 5990), (60, 6000), (61, 6100), (119, 11900), (120, 12000)]
    assert told(steps, total=30000) == [
        "judged 6000 of 30000, 100.0/s, 4 min left",
        "judged 12000 of 30000, 100.0/s, 3 min left",
    ]
    assert told(steps[:4]) == ["judged 6000, 100.0/s"]


def test_rows_that_were_there_before_are_said_and_count_for_no_rate():
    steps = [(0, 40000), (1, 40010), (60, 40600)]
    assert told(steps) == ["goes on after 40000 items that are done", "judged 40600, 10.0/s"]
    assert told([(0, 0), (1, 10)]) == []
    assert told([(0, 5), (60, 5)], total=9)[1:] == ["judged 5 of 9, 0.0/s"]
