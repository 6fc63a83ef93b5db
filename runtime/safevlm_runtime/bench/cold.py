"""Start-up and memory, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from safevlm_runtime.bench.result import Cold
from safevlm_runtime.bench.subject import MAX_IMAGE_BYTES, Setup
from safevlm_sdk.errors import BenchmarkError

SECONDS = 600.0
# Isolated from the environment and the working directory, it finds this package where its parent found it.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1])\n"
    "from safevlm_runtime.bench.cold_child import main; main()"
)
_TIMES = ("import_ms", "load_ms", "first_ms")


class ColdRun:
    """Starts processes, one per call, and keeps what they tell."""

    def __init__(self, setup: Setup, image: Path, name: str, threads: int | None) -> None:
        job = [os.path.abspath(setup.bundle), os.path.abspath(image), MAX_IMAGE_BYTES, setup.options(threads)]
        paths = [os.path.abspath(path) for path in sys.path]
        self._command = [sys.executable, "-I", "-c", _BOOT, json.dumps(paths), json.dumps(job)]
        self._name, self._threads = name, threads
        self._found: list[dict[str, Any]] = []

    def measure(self) -> None:
        """Runs one process and keeps its figures.

        Raises:
            BenchmarkError: It gave no verdict.
        """
        self._found.append(self._run())

    def warm_up(self) -> None:
        """Runs one process, so that the system has the files at hand."""
        self._run()

    def result(self) -> Cold:
        """All samples."""
        times = {name: tuple(round(found[name], 4) for found in self._found) for name in _TIMES}
        peaks = [found["peak_mib"] for found in self._found]
        memory = None if None in peaks else tuple(round(peak, 2) for peak in peaks)
        return Cold(picture=self._name, threads=self._threads, peak_mib=memory, **times)

    def _run(self) -> dict[str, Any]:
        try:
            done = subprocess.run(self._command, capture_output=True, timeout=SECONDS, check=True)  # noqa: S603 - ourselves
            found: dict[str, Any] = json.loads(done.stdout)
        except subprocess.CalledProcessError as problem:
            last = (problem.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]
            raise BenchmarkError(
                f"a fresh process gave no verdict ({last[:300]}); run `safevlm check` with it"
            ) from (problem)
        except (OSError, subprocess.TimeoutExpired, ValueError) as problem:
            raise BenchmarkError(
                f"a fresh process gave no verdict ({type(problem).__name__}); run `safevlm check` with the bundle"
            ) from problem
        if found["problem"] is not None:
            raise BenchmarkError(f"a fresh process could not judge {self._name} ({found['problem']}); leave it out")
        return found
