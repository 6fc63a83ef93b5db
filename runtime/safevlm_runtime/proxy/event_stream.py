"""Server-sent events passed on whole: a stream that breaks off ends with an event that says so."""

from __future__ import annotations

from collections.abc import AsyncIterator

from safevlm_runtime.proxy.strict_json import dumps
from safevlm_sdk.errors import UpstreamFailed

ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


class WholeEvents:
    """Cuts a byte stream after the last event that is complete."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rest = b""

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
        return data[:end]

    def rest(self) -> bytes:
        """What came behind the last complete event."""
        return self._rest


async def whole_events(
    blocks: AsyncIterator[bytes], most: int, failures: tuple[type[Exception], ...]
) -> AsyncIterator[bytes]:
    """Passes events on as they are complete; a stream that fails ends with an error event.

    Args:
        blocks: The upstream's.
        most: Bytes of one event.
        failures: What reading `blocks` raises when it breaks off.
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


def error_event(message: str) -> bytes:
    """An event in the form in which OpenAI-compatible servers report an error within a stream."""
    error = {"message": message, "type": "upstream_error", "param": None, "code": UpstreamFailed.code}
    return event({"error": error})


def event(value: object, name: str | None = None) -> bytes:
    """One event with JSON data."""
    head = b"" if name is None else b"event: " + name.encode("ascii") + b"\n"
    return head + b"data: " + dumps(value) + b"\n\n"


DONE = b"data: [DONE]\n\n"
