"""One HTTP exchange: errors in one form, answers with the gate's headers, and an end when the client goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from safevlm_runtime.proxy.strict_json import dumps
from safevlm_sdk.errors import (
    EngineError,
    ImageError,
    ObserverFailed,
    RequestError,
    SafeVLMError,
)

LOG: Final = logging.getLogger("safevlm.proxy")
SAFE_HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class JsonResponse(Response):
    """A JSON answer."""

    media_type = "application/json"

    def __init__(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(dumps(value), status_code=status, headers=SAFE_HEADERS | dict(headers or {}))


class EventResponse:
    """An answer of server-sent events; unlike Starlette's own it leaves the watch for the client to the caller."""

    def __init__(self, status: int, headers: Mapping[str, str], blocks: AsyncIterator[bytes]) -> None:
        self._status = status
        self._headers = SAFE_HEADERS | dict(headers) | {"content-type": "text/event-stream; charset=utf-8"}
        self._blocks = blocks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the head at once and every block as it comes."""
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self._headers.items()]
        await send({"type": "http.response.start", "status": self._status, "headers": raw})
        async for block in self._blocks:
            await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Answering:
    """Sends an answer, and remembers how far it got."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False
        self.whole = False

    async def __call__(self, message: Message) -> None:
        """Sends on."""
        self.begun = True
        self.whole = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)


def status_of(problem: Exception) -> tuple[int, str, str]:
    """(HTTP status, code, message) of what went wrong; a foreign exception is told by nothing but its kind."""
    if isinstance(problem, RequestError):
        return problem.status, problem.code, str(problem)
    if isinstance(problem, ImageError):
        return 400, problem.code, str(problem)
    if isinstance(problem, ObserverFailed | EngineError):
        return 503, problem.code, "the gate cannot judge now; nothing was passed on"
    if isinstance(problem, SafeVLMError):
        return 500, problem.code, "the gate failed; nothing was passed on"
    return 500, "internal_error", "the gate failed; nothing was passed on"


def error_response(problem: Exception) -> JsonResponse:
    """The error in the form in which OpenAI's interface reports errors."""
    status, code, message = status_of(problem)
    kind = "invalid_request_error" if status < 500 and status != 429 else "server_error"
    headers = {"retry-after": str(getattr(problem, "retry_after", 1))} if status in (429, 503) else {}
    allowed = getattr(problem, "allowed", None)
    if allowed is not None:
        headers["allow"] = ", ".join(allowed)
    if status == 408:
        headers["connection"] = "close"
    error = {"message": message, "type": kind, "param": getattr(problem, "param", None), "code": code}
    return JsonResponse({"error": error}, status, headers)


async def while_connected(receive: Receive, send: Answering, work: Callable[[], Awaitable[None]]) -> None:
    """Does the work, or stops it when the client goes away; the request's body must have been read."""
    task = asyncio.ensure_future(work())
    gone = asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if send.whole:  # the server also says that the client is gone once it has its answer
            await task
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)
    if not task.cancelled():
        task.result()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def note_failure(problem: Exception) -> None:
    """Logs a failure that is nobody's request, without anything that a request held."""
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {trace.tb_frame.f_code.co_name}:{trace.tb_lineno}"
    LOG.error("internal error: %s%s", type(problem).__name__, where)
