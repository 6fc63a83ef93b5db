"""A bundle in our runtime, as an application uses it: THREADS BUNDLE [PRECISION]."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from line_protocol import NoAnswer, number_of_threads, serve

from safevlm_runtime.bundle.reader import starter_path
from safevlm_sdk import Runtime, Verdict


def bundle_path(name: str) -> Path:
    """`starter` is the bundle that the package ships; anything else is a folder."""
    return starter_path() if name == "starter" else Path(name)


def read(verdict: Verdict) -> tuple[bool, Any]:
    if verdict.error is not None:
        raise NoAnswer(f"{verdict.error}: {verdict.reason}")
    return not verdict.allowed, [verdict.action.name, verdict.category, verdict.score]


def main() -> None:
    path, precision = bundle_path(sys.argv[2]), (sys.argv[3:] or [None])[0]
    with Runtime.load(
        path, threads=number_of_threads(), precision=precision, allow_uncalibrated=True, engine_seconds=60.0
    ) as runtime:
        in_use = runtime.check(np.zeros((64, 64, 3), dtype=np.uint8)).provider
        serve(runtime.check, read, {"provider": in_use, "bundle": runtime.digests[0]})


if __name__ == "__main__":
    main()
