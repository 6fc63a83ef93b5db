"""Endpoints without a body: health, readiness, metrics, models, the description of the interface, the page."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope

from safevlm_runtime.proxy.exchange import SAFE_HEADERS, Answering, JsonResponse
from safevlm_runtime.proxy.gateway import Gateway
from safevlm_runtime.proxy.openapi import document
from safevlm_runtime.proxy.reading import check_head

PAGE_HEADERS: Final = SAFE_HEADERS | {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
}
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fixed:
    """An endpoint that answers from what it has, without waiting."""

    answer: Callable[[], Response]

    async def __call__(self, scope: Scope, receive: Receive, send: Answering) -> None:
        """Answers one request."""
        check_head(Request(scope, receive))
        await self.answer()(scope, receive, send)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ready:
    """`GET /readyz`: 200 when requests can be served, and what the gate looks for."""

    gateway: Gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Answering) -> None:
        """Answers one request."""
        check_head(Request(scope, receive))
        reachable = await self.gateway.upstream.reachable()
        told = {
            "status": "ready" if reachable else "engine_unavailable",
            "upstream": "reachable" if reachable else "unreachable",
            **self.gateway.coverage.to_dict(),
        }
        await JsonResponse(told, 200 if reachable else 503)(scope, receive, send)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Models:
    """`GET /v1/models`: the upstream's answer."""

    gateway: Gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Answering) -> None:
        """Answers one request."""
        request, upstream = Request(scope, receive), self.gateway.upstream
        check_head(request)
        async with upstream.get("/models", request.headers) as answer:
            response = Response(await upstream.whole(answer), answer.status, SAFE_HEADERS | dict(answer.headers))
        await response(scope, receive, send)


def health() -> Fixed:
    """`GET /healthz`: the process answers."""
    return Fixed(answer=lambda: JsonResponse({"status": "ok"}))


def interface() -> Fixed:
    """`GET /openapi.json`."""
    described = document()
    return Fixed(answer=lambda: JsonResponse(described))


def metrics(gateway: Gateway) -> Fixed:
    """`GET /metrics`, for Prometheus."""

    def answer() -> Response:
        text, kind = gateway.metrics.exposition()
        return Response(text, headers=SAFE_HEADERS | {"content-type": kind})

    return Fixed(answer=answer)


def page() -> dict[str, Fixed]:
    """The playground page at `/` and its other files at `/page/NAME`, read once."""
    folder = importlib.resources.files("safevlm_runtime.proxy") / "page"
    if not folder.is_dir():
        return {}
    found: dict[str, Fixed] = {}
    for file in folder.iterdir():
        kind = _TYPES.get(f".{file.name.rpartition('.')[2]}")
        if kind is not None and file.is_file():
            path = "/" if file.name == "index.html" else f"/page/{file.name}"
            found[path] = _file(file.read_bytes(), kind)
    return found


def _file(data: bytes, kind: str) -> Fixed:
    return Fixed(answer=lambda: Response(data, headers=PAGE_HEADERS | {"content-type": kind}))
