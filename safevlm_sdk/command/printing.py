"""Text of strangers (file names, names in bundles and policies) made safe for a terminal and a pipe."""

from __future__ import annotations

import sys

from rich.console import Console

PIPE_WIDTH = 200


def printable(text: str) -> str:
    """The text on one line, without control characters, escape sequences or bytes that are no text."""
    return "".join(ch if ch.isprintable() else ch.encode("unicode_escape", "surrogatepass").decode() for ch in text)


def console() -> Console:
    """A console that is as wide as the terminal, and wide enough for whole rows in a pipe."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def never_fail_on_a_character() -> None:
    """Lets a terminal or pipe with a narrow encoding show what it cannot write as an escape."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
