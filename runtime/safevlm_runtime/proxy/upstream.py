"""The server behind the gate: asked only for what was judged, with headers from a short list."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import anyio
import httpx
from starlette.datastructures import Headers

from safevlm_runtime.proxy.settings import ProxyLimits, Settings
from safevlm_sdk.errors import EngineUnavailable, Overloaded, UpstreamFailed, UpstreamTimeout

FORWARDED: Final = ("authorization", "openai-organization", "openai-project", "traceparent", "tracestate")
RETURNED: Final = ("content-type", "retry-after", "x-request-id", "openai-processing-ms", "openai-model")
RETURNED_PREFIXES: Final = ("x-ratelimit-",)
BROKEN: Final[tuple[type[Exception], ...]] = (httpx.HTTPError, httpx.StreamError)
_FRESH_SECONDS: Final = 1.0
_PROBE_SECONDS: Final = 2.0
_FIRST_PROBE_SECONDS: Final = 15.0
"""Some servers look through their models when they are asked for the first time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """The head of an upstream's answer, and its body as it comes.

    Attributes:
        status: Of HTTP.
        headers: Those that are handed back.
        streamed: The body is server-sent events.
        framed: HTTP says where the body ends; else the end of the connection alone does.
        blocks: The body.
    """

    status: int
    headers: Mapping[str, str]
    streamed: bool
    framed: bool
    blocks: AsyncIterator[bytes]


class Upstream:
    """A pool of connections to one OpenAI-compatible server; used from one event loop."""

    def __init__(self, settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._api = settings.api
        self._limits = settings.limits
        self._client = _client(settings.limits, transport)
        self._probed: tuple[float, bool] = (float("-inf"), False)

    @asynccontextmanager
    async def post(self, path: str, body: bytes, headers: Headers) -> AsyncIterator[Answer]:
        """Sends a body and gives the answer, whose connection is closed when the block ends.

        Raises:
            EngineUnavailable: There is no connection.
            UpstreamTimeout: No answer began in time.
            UpstreamFailed: The connection broke before the answer.
            Overloaded: All connections are in use.
        """
        sent = forwarded(headers) | {"content-type": "application/json"}
        async with self._ask("POST", path, body, sent) as answer:
            yield answer

    @asynccontextmanager
    async def get(self, path: str, headers: Headers) -> AsyncIterator[Answer]:
        """Asks without a body; see `post`."""
        async with self._ask("GET", path, b"", forwarded(headers)) as answer:
            yield answer

    async def whole(self, answer: Answer) -> bytes:
        """The body of an answer that is not streamed.

        Raises:
            UpstreamFailed: It broke off, or is larger than the limit.
        """
        data = bytearray()
        try:
            async for block in answer.blocks:
                data += block
                if len(data) > self._limits.answer_bytes:
                    raise UpstreamFailed(f"the upstream's answer has more than {self._limits.answer_bytes} bytes")
        except BROKEN as problem:
            raise UpstreamFailed(f"the upstream's answer broke off ({type(problem).__name__})") from problem
        return bytes(data)

    async def reachable(self) -> bool:
        """Whether something answers HTTP at the upstream's address; asked once a second at most."""
        asked, found = self._probed
        if time.monotonic() - asked >= _FRESH_SECONDS:
            found = await answers(self._client, self._api)
            self._probed = (time.monotonic(), found)
        return found

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.aclose()

    @asynccontextmanager
    async def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> AsyncIterator[Answer]:
        sent = httpx.Headers(headers, encoding="latin-1")  # the bytes that came, whatever they say
        request = self._client.build_request(method, f"{self._api}{path}", content=body or None, headers=sent)
        try:
            response = await self._client.send(request, stream=True)
        except httpx.PoolTimeout as problem:
            raise Overloaded("all connections to the upstream are in use; ask again in a second") from problem
        except (httpx.ConnectError, httpx.ConnectTimeout) as problem:
            raise EngineUnavailable("the upstream cannot be reached; is it running?") from problem
        except httpx.TimeoutException as problem:
            raise UpstreamTimeout(
                f"the upstream did not answer within {self._limits.answer_seconds:g} s"
            ) from problem
        except httpx.HTTPError as problem:
            raise UpstreamFailed(f"the upstream gave no answer ({type(problem).__name__})") from problem
        response.headers.encoding = "latin-1"
        try:
            media = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            yield Answer(
                status=response.status_code,
                headers=_returned(response.headers),
                streamed=media == "text/event-stream",
                framed="content-length" in response.headers or "transfer-encoding" in response.headers,
                blocks=response.aiter_bytes(),
            )
        finally:
            # Also when the client has gone: the upstream must hear of it, or it goes on for nobody.
            with anyio.CancelScope(shield=True), anyio.move_on_after(1.0):
                await response.aclose()


def forwarded(headers: Headers) -> dict[str, str]:
    """The headers of a client that are sent on, and what the upstream is asked for."""
    found = {name: headers[name] for name in FORWARDED if name in headers}
    return found | {"accept-encoding": "identity", "user-agent": "safevlm-proxy"}


async def answers(client: httpx.AsyncClient, api: str, seconds: float = _PROBE_SECONDS) -> bool:
    """Whether an upstream answers anything but a server error; it may well want a key."""
    try:
        response = await client.get(f"{api}/models", timeout=seconds)
    except httpx.HTTPError:
        return False
    return response.status_code < 500


async def probe(settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> bool:
    """Whether the upstream answers, asked once with a connection of its own and with patience."""
    async with _client(settings.limits, transport) as client:
        return await answers(client, settings.api, _FIRST_PROBE_SECONDS)


def _client(limits: ProxyLimits, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=transport,
        timeout=httpx.Timeout(limits.answer_seconds, connect=limits.connect_seconds, pool=1.0),
        limits=httpx.Limits(max_connections=limits.upstream_connections, max_keepalive_connections=32),
        # Keeps none: what the upstream sets for one client must not come with the requests of another.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        follow_redirects=False,
        trust_env=False,
    )


def _returned(headers: httpx.Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name in RETURNED or name.startswith(RETURNED_PREFIXES)}
