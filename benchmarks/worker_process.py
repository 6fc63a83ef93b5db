"""A worker of `peers.py`, from the side that asks: `workers/line_protocol.py` says what is spoken."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Timer
from typing import IO, Any

from environments import last_words

START_SECONDS = 600.0  # a library may export a model when it starts
ANSWER_SECONDS = 1200.0  # the first answer of a compiled model compiles it


class NoAnswer(Exception):
    """A worker did not start, or did not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One picture's: milliseconds inside the worker, whether it was flagged, and a digest of all that was said."""

    ms: float
    flagged: bool | None
    digest: str


class WorkerProcess:
    """One worker, which has said that it is ready.

    Args:
        words: The command.
        environment: Its environment variables.
        log: File for what it writes to standard error.

    Raises:
        NoAnswer: It did not become ready; the message has its last lines.
    """

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        self._errors = log.open("w", encoding="utf-8")
        try:
            self._process = subprocess.Popen(
                list(words),
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                encoding="utf-8",
            )
        except OSError as problem:
            self._errors.close()
            raise NoAnswer(f"{words[0]} cannot be run ({problem.strerror})") from problem
        try:
            self.facts: dict[str, Any] = self._message(START_SECONDS)["ready"]
        except NoAnswer:
            self.close()
            raise

    def ask(self, image: Path) -> Answer:
        """One picture.

        Raises:
            NoAnswer: The worker says that it has none, or is gone.
        """
        with suppress(BrokenPipeError):  # the message says why
            print(json.dumps(str(image)), file=_open(self._process.stdin), flush=True)
        message = self._message(ANSWER_SECONDS)
        if "error" in message:
            raise NoAnswer(str(message["error"]))
        return Answer(ms=float(message["ms"]), flagged=message["flagged"], digest=str(message["digest"]))

    def close(self) -> None:
        """Ends the worker."""
        with suppress(BrokenPipeError):
            _open(self._process.stdin).close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _open(self._process.stdout).close()
        self._errors.close()

    def _message(self, seconds: float) -> dict[str, Any]:
        stopped = Event()

        def stop() -> None:
            stopped.set()
            self._process.kill()

        timer = Timer(seconds, stop)
        timer.start()
        try:
            line = _open(self._process.stdout).readline()
        finally:
            timer.cancel()
        if not line:
            said = last_words(self._log.read_text(encoding="utf-8", errors="replace"))
            why = f"it said nothing for {seconds:g} s and was stopped" if stopped.is_set() else "it ended"
            raise NoAnswer(f"{why}: {said}")
        message: dict[str, Any] = json.loads(line)
        return message


def _open(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise NoAnswer("the worker has no pipe")
    return stream
