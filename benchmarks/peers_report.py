"""What `peers.py` makes of its figures: ratios, and a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from contenders import Contender
from paired import Times, claim, median_interval, paired_ratios
from worker_process import Answer

LIMIT = 0.8
CLAIM = f"below {LIMIT} of every peer that ran"


def compare(contenders: Sequence[Contender], times: Mapping[str, Times]) -> dict[str, Any]:
    """Per gate the ratios to all of its group, and whether it stays below the limit of each peer that ran."""
    result: dict[str, Any] = {}
    for one in (one for one in contenders if one.role == "gate"):
        ratios: dict[str, dict[str, float]] = {}
        ends: list[float | None] = []
        for other in (other for other in contenders if other is not one and other.group == one.group):
            ratio, low, high = median_interval(paired_ratios(times[one.name], times[other.name]))
            more = float(np.median(times[one.name] - times[other.name]))
            figures = {"ratio": ratio, "low": low, "high": high, "ms_more": more}
            ratios[other.name] = {key: round(value, 4) for key, value in figures.items()}
            if other.role == "peer":
                ends.append(high)
        result[one.name] = {"ratios": ratios, CLAIM: claim(ends, LIMIT)}
    return result


def flagged(answers: Sequence[Answer]) -> int | None:
    """How many pictures were flagged; None of what flags nothing."""
    found = [answer.flagged for answer in answers]
    return None if None in found else sum(map(bool, found))


def changed(warm: Sequence[Answer], digests: Sequence[str]) -> int:
    """How many timed answers differ from the first one to the same picture."""
    return sum(digest != warm[number % len(warm)].digest for number, digest in enumerate(digests))


def print_result(result: Mapping[str, Any]) -> None:
    """The figures for people."""
    for name in ("threads", "rounds", "images", "median_megapixels"):
        print(f"{name}: {result[name]}")
    for line in result["left_out"]:
        print(f"left out: {line}")
    print(f"\n{'file to answer, ms':28} {'p50':>8} {'p95':>8} {'p99':>8}  flagged  runs on")
    for name, entry in result["contenders"].items():
        p50, p95, p99 = entry["ms_p50_p95_p99"]
        count = "" if entry["flagged"] is None else entry["flagged"]
        print(f"{name:28} {p50:8.2f} {p95:8.2f} {p99:8.2f}  {count:>7}  {entry['provider']}")
    for name, reason in result["not_run"].items():
        print(f"{name:28} not run: {reason}")
    for name, entry in result["compared"].items():
        print(f"\n{name} takes, of the time of")
        for other, ratio in entry["ratios"].items():
            print("  {0:28} {ratio:.3f} [{low:.3f}, {high:.3f}]  {ms_more:+.2f} ms".format(other, **ratio))
        print(f"{CLAIM}: {entry[CLAIM]}")
