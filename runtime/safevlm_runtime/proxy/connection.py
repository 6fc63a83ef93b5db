"""A server connection that does not wait for ever: uvicorn alone sets no time for the head of a request."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

_TINY: Final = 24
_FLOOD: Final = 4096


class PatientConnection(H11Protocol):
    """Closes a connection whose request head takes longer than `head_seconds` from its first byte, or from the start.

    The time runs while no request is being answered: at the start, between the requests of a kept connection once
    the first byte of the next one is there, and while the rest of a refused body is thrown away. A client that takes
    nothing of its answer for `write_seconds` is cut off too.
    """

    head_seconds = 5.0
    write_seconds = 60.0

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Starts the time of the first head."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops all times."""
        self._unwatch()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes bytes; the time goes on until they complete a head."""
        if self._floods(data):
            self.transport.abort()
            return
        super().data_received(data)
        if self._answering():
            self._unwatch()
        elif self._head_timer is None:
            self._watch()

    def pause_writing(self) -> None:
        """Starts the time of a client that takes nothing."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stops it."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._give_up)

    def _unwatch(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self._answering() and not self.transport.is_closing():
            self.transport.abort()

    def _floods(self, data: bytes) -> bool:
        """Whether a body comes in chunks so tiny that taking them apart costs far more than sending them."""
        chunked = self._answering() and any(name == b"transfer-encoding" for name, _ in self.headers)
        return chunked and len(data) > _FLOOD and data.count(b"\r\n") * _TINY > len(data)
