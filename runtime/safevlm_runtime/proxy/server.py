"""Starting the server: load, look whether all is there, listen, serve."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from safevlm_runtime import Runtime
from safevlm_runtime.judging.observer import Observer
from safevlm_runtime.proxy.announcing import ENDED, announce
from safevlm_runtime.proxy.app import make_app
from safevlm_runtime.proxy.connection import PatientConnection
from safevlm_runtime.proxy.gateway import Gateway, cores, coverage_of, open_gateway
from safevlm_runtime.proxy.reloading import Workers, on_hangup, read_policy_again
from safevlm_runtime.proxy.remote_images import check_host
from safevlm_runtime.proxy.settings import Settings
from safevlm_runtime.proxy.upstream import probe
from safevlm_runtime.proxy.warming import warm_up
from safevlm_runtime.telemetry.decision_log import DecisionLog
from safevlm_runtime.telemetry.spans import Spans
from safevlm_sdk.errors import EngineError, EngineUnavailable, ListenError, MissingExtra

GRACE_SECONDS = 10
STOP_SECONDS = 2


def serve(settings: Settings, *, check_upstream: bool, say: Callable[[str], None]) -> None:
    """Serves until it is told to stop.

    Args:
        settings: What to serve.
        check_upstream: Refuse to start when the upstream does not answer.
        say: Told in lines what is served and what the gate looks for.

    Raises:
        SafeVLMError: A bundle or policy is refused, the port is taken, or the upstream does not answer. Also later,
            where one of several workers has died and the one in its place cannot start: nothing is served then.
    """
    for host in settings.image_hosts:
        check_host(host)
    with load(settings) as runtime:
        if check_upstream and not asyncio.run(probe(settings)):
            raise EngineUnavailable(
                f"nothing answers at {settings.api}/models; start the upstream first, or pass --no-upstream-check"
            )
        warm_up(runtime, settings.source)
        with listening(settings) as listener:
            announce(settings, runtime, listener.getsockname()[1], say)
            if settings.workers == 1:
                config = server_config(settings, make_app(functools.partial(_until_its_end, settings, runtime, say)))
                uvicorn.Server(config).run([listener])
                return
            runtime.close()  # each worker process has its own
            config = server_config(settings, functools.partial(worker_app, settings), factory=True)
            workers = Workers(config, [listener])
            with shared_metrics():
                workers.run()
            if workers.failed_to_start:
                with load(settings) as again:  # says what is wrong, as it would at a start
                    warm_up(again, settings.source)
                raise EngineError("a worker process could not start, so that the gate ended; start it again")
            say(ENDED)


@asynccontextmanager
async def _until_its_end(settings: Settings, runtime: Runtime, say: Callable[[str], None]) -> AsyncIterator[Gateway]:
    """`shared`, with a line at its end: uvicorn returns to no caller after SIGTERM."""
    async with shared(settings, runtime) as gateway:
        yield gateway
    say(ENDED)


@contextmanager
def shared_metrics() -> Iterator[None]:
    """Lets any worker process answer for all, in a folder of this run unless the operator has named one."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="safevlm-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["PROMETHEUS_MULTIPROC_DIR"]


def worker_app(settings: Settings) -> ASGIApp:
    """The application of one worker process, which loads its own runtime."""
    return make_app(functools.partial(shared, settings, None))


@asynccontextmanager
async def shared(settings: Settings, runtime: Runtime | None) -> AsyncIterator[Gateway]:
    """What the requests of this process share; a runtime that is given has judged a picture, and stays open."""
    # First of all: a signal that comes while the rest is loaded is answered once that is done.
    with on_hangup(lambda: read_policy_again(settings.policy, judge, gateway)):
        judge = warm(settings) if runtime is None else runtime
        log = decision_log(settings, lambda: gateway.metrics.log_line_lost())
        observers: tuple[Observer, ...] = () if log is None else (log,)
        gateway = open_gateway(settings, judge, coverage_of(judge), (*observers, *tracing()))
        try:
            yield gateway
        finally:
            await gateway.close()
            if log is not None:
                log.close()
            if runtime is None:
                judge.close()


def decision_log(settings: Settings, on_lost: Callable[[], None]) -> DecisionLog | None:
    """The log that the settings name, if they name one; see `DecisionLog`."""
    if settings.decision_log is None:
        return None
    return DecisionLog(settings.decision_log, on_error=settings.log_errors, on_lost=on_lost)


def tracing() -> tuple[Observer, ...]:
    """Spans for OpenTelemetry where it is installed; they go where the process's tracer provider sends them."""
    try:
        return (Spans(),)
    except MissingExtra:
        return ()


def warm(settings: Settings) -> Runtime:
    """`load`, with a first picture judged."""
    runtime = load(settings)
    try:
        warm_up(runtime, settings.source)
    except BaseException:
        runtime.close()
        raise
    return runtime


def load(settings: Settings) -> Runtime:
    """The runtime that the settings name.

    Raises:
        SafeVLMError: A bundle or policy is refused.
    """
    options: dict[str, Any] = {
        "policy": settings.policy,
        "provider": settings.provider,
        "precision": settings.precision,
        "engine_seconds": settings.engine_seconds,
        "threads": settings.threads_of(cores()),
        "allow_uncalibrated": settings.allow_uncalibrated,
        "isolate_decoding": settings.isolate,
    }
    if not settings.bundles:
        return Runtime.starter(**options, digest=settings.digests[0] if settings.digests else None)
    return Runtime.load(*settings.bundles, **options, digest=settings.digests or None, public_key=settings.public_key)


def server_config(settings: Settings, app: Any, *, factory: bool = False) -> uvicorn.Config:
    """How uvicorn serves: its own parser with our times, no logs of requests, no websockets."""
    return uvicorn.Config(
        app,
        factory=factory,
        workers=settings.workers,
        http=PatientConnection,
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=32 * 2**10,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def listening(settings: Settings) -> socket.socket:
    """A listening socket.

    Raises:
        ListenError: The port is taken, or the address is not of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)  # with the protocol: else asyncio leaves Nagle's delay on
        try:
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
        except BaseException:
            listener.close()
            raise
    except OSError as problem:
        raise ListenError(
            f"cannot listen on {settings.host}:{settings.port} ({problem.strerror}); stop what uses the port, or "
            "choose another with --port"
        ) from problem
    listener.set_inheritable(True)
    return listener
