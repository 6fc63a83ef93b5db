"""Server-sent events passed on whole: a stream that breaks off ends with an event that says so."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

from safevlm_runtime.proxy.strict_json import dumps
from safevlm_sdk.errors import UpstreamFailed

ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_FINAL: Final = re.compile(
    rb"^(?:data: ?\[DONE\]|event: ?(?:response\.(?:completed|incomplete|failed)|error)) *$", re.MULTILINE
)


class WholeEvents:
    """Cuts a byte stream after the last event that is complete."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rest = b""
        self._last = b""

    def feed(self, block: bytes) -> bytes:
        """The complete events so far.

        Raises:
            UpstreamFailed: One event is larger than the limit.
        """
        data = self._rest + block
        end = max(data.rfind(mark) + len(mark) if mark in data else 0 for mark in ENDS)
        self._rest = data[end:]
        if len(self._rest) > self._most:
            raise UpstreamFailed(f"the upstream sent an event of more than {self._most} bytes")
        if end:
            self._last = data[:end].replace(b"\r", b"\n").rstrip(b"\n").rpartition(b"\n\n")[2]
        return data[:end]

    @property
    def finished(self) -> bool:
        """The last complete event is one with which a stream ends."""
        return _FINAL.search(self._last) is not None

    def rest(self) -> bytes:
        """What came behind the last complete event."""
        return self._rest


async def whole_events(
    blocks: AsyncIterator[bytes], most: int, failures: tuple[type[Exception], ...], *, framed: bool
) -> AsyncIterator[bytes]:
    """Passes events on as they are complete; a stream that fails ends with an error event.

    Not every server says in an event that a stream ends. Where nothing but the end of the connection would say so,
    a server that died looks the same, so that such an event is needed.

    Args:
        blocks: The upstream's.
        most: Bytes of one event.
        failures: What reading `blocks` raises when it breaks off.
        framed: HTTP itself says where the answer ends, so that reading `blocks` raises when it ends before.
    """
    events = WholeEvents(most)
    try:
        async for block in blocks:
            if complete := events.feed(block):
                yield complete
    except Exception as problem:
        if not isinstance(problem, (*failures, UpstreamFailed)):
            raise
        yield error_event("the upstream's answer broke off")
        return
    if events.rest().strip():
        yield error_event("the upstream's answer ended in the middle of an event")
    elif not framed and not events.finished:
        yield error_event("the upstream closed the connection before the end of its answer")


def error_event(message: str) -> bytes:
    """An event in the form in which OpenAI-compatible servers report an error within a stream."""
    error = {"message": message, "type": "upstream_error", "param": None, "code": UpstreamFailed.code}
    return event({"error": error})


def event(value: object, name: str | None = None) -> bytes:
    """One event with JSON data."""
    head = b"" if name is None else b"event: " + name.encode("ascii") + b"\n"
    return head + b"data: " + dumps(value) + b"\n\n"


DONE = b"data: [DONE]\n\n"
