"""How a worker of `peers.py` talks to it: one line of JSON in, one line of JSON out.

First the worker says `{"ready": FACTS}`. Then each line that it reads is the path of a picture, as a JSON string, and
it says `{"ms": MILLISECONDS, "flagged": BOOL OR NULL, "digest": HEX}`, or `{"error": REASON}`. It ends when its input
ends. Only the standard library is used, for every environment runs this.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from importlib import metadata
from time import perf_counter
from typing import Any

Read = Callable[[Any], "tuple[bool | None, Any]"]


class NoAnswer(Exception):
    """What came back is no answer: quick, and proof of nothing."""


def serve(answer: Callable[[str], Any], read: Read, facts: dict[str, Any]) -> None:
    """Answers until the input ends.

    Args:
        answer: From a path to whatever the library returns; this alone is timed.
        read: From that to whether it flags the picture (None where it cannot), and all that was answered as plain
            values; raises NoAnswer where it is none.
        facts: What is in use: provider, threads.
    """
    out = _own_output()
    _say(out, {"ready": facts})
    for line in sys.stdin:
        path = json.loads(line)
        try:
            start = perf_counter()
            found = answer(path)
            ms = (perf_counter() - start) * 1e3
            flagged, said = read(found)
            _say(out, {"ms": ms, "flagged": flagged, "digest": digest(said)})
        except Exception as problem:  # each library fails in its own way; a failure must be told, not timed
            _say(out, {"error": f"{type(problem).__name__}: {problem}"})


def digest(said: Any) -> str:
    """Sixteen hexadecimal digits of what was answered."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def number_of_threads() -> int | None:
    """The first argument; None for 0, which leaves the number to the library."""
    return int(sys.argv[1]) or None


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _own_output() -> Any:
    """Standard output for the protocol alone: what a library prints goes to standard error from now on."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _say(out: Any, message: dict[str, Any]) -> None:
    print(json.dumps(message), file=out, flush=True)
