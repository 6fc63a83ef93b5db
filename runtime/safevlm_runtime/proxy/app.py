"""The ASGI application: exactly these endpoints, and one form for every error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from safevlm_runtime.proxy import plain_endpoints
from safevlm_runtime.proxy.completions import CHAT, RESPONSES, Completions
from safevlm_runtime.proxy.exchange import Answering, error_response, note_failure, status_of
from safevlm_runtime.proxy.gateway import Gateway
from safevlm_runtime.proxy.image_endpoints import Check, Moderations
from safevlm_sdk.errors import EndpointUnknown, EngineUnavailable, MethodNotAllowed

Endpoint: TypeAlias = Callable[[Scope, Receive, Answering], Awaitable[None]]
Opener: TypeAlias = Callable[[], AbstractAsyncContextManager[Gateway]]


class Application:
    """Hands each request to its endpoint; whatever is not in the table is refused by name and goes nowhere."""

    def __init__(self) -> None:
        self._gateway: Gateway | None = None
        self._endpoints: Mapping[str, Mapping[str, Endpoint]] = {}

    def use(self, gateway: Gateway) -> None:
        """Begins to serve."""
        self._gateway, self._endpoints = gateway, endpoints(gateway)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; errors are answered too."""
        answering = Answering(send)
        try:
            await self._endpoint(scope["path"], scope["method"])(scope, receive, answering)
        except Exception as problem:
            if status_of(problem)[0] == 500:
                note_failure(problem)
            if self._gateway is not None:
                self._gateway.metrics.refused(status_of(problem)[1])
            if not answering.begun:  # else the server closes the connection, and the client sees that it is not whole
                await error_response(problem)(scope, receive, send)

    def _endpoint(self, path: str, method: str) -> Endpoint:
        if self._gateway is None:
            raise EngineUnavailable("the gate is still loading; ask again in a second")
        methods = self._endpoints.get(path)
        if methods is None:
            raise EndpointUnknown(f"there is no such path here; {', '.join(sorted(self._endpoints))} are served")
        endpoint = methods.get(method)
        if endpoint is None:
            raise MethodNotAllowed(f"this path takes {', '.join(methods)}", allowed=tuple(methods))
        return endpoint


def endpoints(gateway: Gateway) -> dict[str, dict[str, Endpoint]]:
    """Path to method to endpoint: all there is."""
    return {
        "/v1/chat/completions": {"POST": Completions(gateway=gateway, protocol=CHAT)},
        "/v1/responses": {"POST": Completions(gateway=gateway, protocol=RESPONSES)},
        "/v1/moderations": {"POST": Moderations(gateway=gateway)},
        "/v1/check": {"POST": Check(gateway=gateway)},
        "/v1/models": {"GET": plain_endpoints.Models(gateway=gateway)},
        "/healthz": {"GET": plain_endpoints.health()},
        "/readyz": {"GET": plain_endpoints.Ready(gateway=gateway)},
        "/metrics": {"GET": plain_endpoints.metrics(gateway)},
        "/openapi.json": {"GET": plain_endpoints.interface()},
        **{path: {"GET": file} for path, file in plain_endpoints.page().items()},
    }


def make_app(opener: Opener) -> ASGIApp:
    """The application.

    Args:
        opener: Opens what requests share when the server starts, and closes it when the server ends.
    """
    application = Application()

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        async with opener() as gateway:
            application.use(gateway)
            yield

    return Router(default=application, lifespan=lifespan, redirect_slashes=False)
