"""Taking in a request: its headers and its body, within bounds of bytes and time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import anyio
from starlette.requests import ClientDisconnect, Request

from safevlm_runtime.proxy.settings import ProxyLimits
from safevlm_sdk.errors import BadRequest, BodyEncoding, BodyTooLarge, Overloaded, RequestTimeout

JSON: Final = "application/json"


class Buffered:
    """Counts the bytes of all bodies that are held, so that many large ones cannot fill the memory."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes that are held now."""
        return self._held

    @contextmanager
    def body(self) -> Iterator[Body]:
        """One body, which is no longer counted when the block ends."""
        body = Body(self)
        try:
            yield body
        finally:
            body.release()

    def take(self, count: int) -> None:
        """Counts further bytes.

        Raises:
            Overloaded: There is no room for them now.
        """
        if self._held + count > self._most:
            raise Overloaded("the gate holds too many large requests; ask again in a second")
        self._held += count

    def give(self, count: int) -> None:
        """Counts bytes no longer."""
        self._held -= count


class Body:
    """The bytes of one request body as they come in."""

    def __init__(self, account: Buffered) -> None:
        self.data = bytearray()
        self._account = account
        self._counted = 0

    def add(self, block: bytes) -> None:
        """Takes a block; see `Buffered.take`."""
        self.hold(len(block))
        self.data += block

    def hold(self, count: int) -> None:
        """Counts bytes that are held for the same request beside these; see `Buffered.take`."""
        self._account.take(count)
        self._counted += count

    def become(self, count: int) -> None:
        """Lets go of the bytes, in whose place others are held elsewhere; see `Buffered.take`."""
        self.release()
        self._account.take(count)
        self._counted = count

    def release(self) -> None:
        """Lets go of the bytes."""
        self._account.give(self._counted)
        self._counted = 0
        self.data = bytearray()


def single_header(request: Request, name: str) -> str | None:
    """A header that may come once.

    Raises:
        BadRequest: It comes twice.
    """
    values = request.headers.getlist(name)
    if len(values) > 1:
        raise BadRequest(f"the header {name} comes {len(values)} times; send it once")
    return values[0] if values else None


def check_head(request: Request) -> None:
    """Refuses a query, a compressed body and a body whose length is stated in two ways.

    Raises:
        RequestError: As said.
    """
    if request.url.query:
        raise BadRequest("a query string is not passed on; send everything in the body")
    encoding = single_header(request, "content-encoding")
    if encoding is not None and encoding.strip().lower() != "identity":
        raise BodyEncoding("the body is compressed; send it without Content-Encoding")
    if single_header(request, "content-length") is not None and "transfer-encoding" in request.headers:
        raise BadRequest("the request has Content-Length and Transfer-Encoding; send one of them")
    single_header(request, "authorization")


def media_type(request: Request) -> str:
    """The body's media type, in lower case.

    Raises:
        BodyEncoding: None is stated, or a charset other than UTF-8.
    """
    stated = single_header(request, "content-type") or ""
    media, _, parameters = stated.partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if not media.strip() or (charset and charset not in ("charset=utf-8", "charset=utf8")):
        raise BodyEncoding(f"the Content-Type is missing or has parameters that are not taken; send {JSON}")
    return media.strip().lower()


async def read_body(request: Request, body: Body, limits: ProxyLimits, most: int) -> None:
    """Reads a body whole.

    Args:
        request: Its head was checked.
        body: Gets the bytes.
        limits: For the time.
        most: Bytes.

    Raises:
        BodyTooLarge: It has more, by what it states or by what comes.
        RequestTimeout: It did not come in time.
        Overloaded: There is no room for it.
    """
    length = single_header(request, "content-length")
    if length is not None and int(length) > most:  # the server checked that it is a number
        raise _too_large(most)
    try:
        with anyio.fail_after(limits.body_seconds):
            async for block in request.stream():
                if len(body.data) + len(block) > most:
                    raise _too_large(most)
                body.add(block)
    except TimeoutError as problem:
        raise RequestTimeout(f"the body did not come within {limits.body_seconds:g} s") from problem
    except ClientDisconnect as problem:
        raise RequestTimeout("the client went away before its request was whole") from problem


def _too_large(most: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body has more than {most} bytes; send fewer or smaller images")
