"""What `safevlm serve` was told, and its limits: every one of them finite."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from safevlm_sdk.errors import OptionError

_UPSTREAM: Final = re.compile(r"https?://[A-Za-z0-9._\[\]:-]+(/[A-Za-z0-9._~/-]*)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyLimits:
    """Bounds on requests.

    Attributes:
        body_bytes: Of one request body.
        buffered_bytes: Of all bodies of one worker process that are held at a time, with the images fetched for them.
        body_seconds: From the end of a request's head to the end of its body.
        images: Per request.
        image_bytes: Of one image.
        judging: Requests of one worker process whose images are judged at one time; None for two, or for one where
            the machine has less than four cores for each process.
        waiting: Requests that wait for that; further ones are told to come again.
        burst_seconds: That a request may be expected to wait for that. Where so many come that they would wait for
            longer, none waits for longer than half a judgement, and the others are told to come again.
        connect_seconds: To the upstream.
        answer_seconds: Without a byte from the upstream; a long answer that is not streamed comes at once.
        answer_bytes: Of an answer that is not streamed, and of one event of a stream.
        upstream_connections: Of one worker process.
    """

    body_bytes: int = 20 * 2**20
    buffered_bytes: int = 512 * 2**20
    body_seconds: float = 30.0
    images: int = 8
    image_bytes: int = 10 * 2**20
    judging: int | None = None
    waiting: int = 64
    burst_seconds: float = 0.25
    connect_seconds: float = 5.0
    answer_seconds: float = 600.0
    answer_bytes: int = 32 * 2**20
    upstream_connections: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that one worker process needs to start; it is sent to the others as it is.

    Attributes:
        upstream: Base address with or without `/v1`, such as `http://127.0.0.1:8000`.
        bundles: Folders; empty for the starter.
        policy: A policy file instead of the bundles' own.
        digests: One per bundle, or none.
        public_key: PEM file of the key that must have signed the bundles.
        provider: Execution provider.
        precision: Of the graphs; None takes what is usually fastest there.
        engine_seconds: Wall time of one run of a graph, per image of its batch.
        allow_uncalibrated: Load bundles whose decisions were never proven.
        isolate: Decode in a child process with limited means.
        source: Of the policy, for all images that come in here.
        image_hosts: Hosts from which images are fetched; none by default.
        host: To listen on.
        port: To listen on; 0 takes a free one.
        workers: Processes.
        threads: Of the graph in each process; None for all cores in one process, or an equal share of them in each of
            several.
        decision_log: File that gets one line per verdict.
        log_errors: What a line that cannot be written does: "block" lets nothing go on, "count" only counts it.
        limits: Of requests.
    """

    upstream: str
    bundles: tuple[str, ...] = ()
    policy: str | None = None
    digests: tuple[str, ...] = ()
    public_key: str | None = None
    provider: str = "cpu"
    precision: str | None = None
    engine_seconds: float = 2.0
    allow_uncalibrated: bool = False
    isolate: bool = False
    source: str | None = None
    image_hosts: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8787
    workers: int = 1
    threads: int | None = None
    decision_log: str | None = None
    log_errors: Literal["block", "count"] = "block"
    limits: ProxyLimits = field(default_factory=ProxyLimits)

    def __post_init__(self) -> None:
        if not _UPSTREAM.fullmatch(self.upstream):
            raise OptionError(
                "the upstream must be http:// or https:// with a host, perhaps a port and a path, and no user, query "
                "or fragment; give for example http://127.0.0.1:8000"
            )
        if self.workers < 1 or not 0 <= self.port <= 65535:
            raise OptionError(f"workers is {self.workers} and port {self.port}; give at least 1, and 0 to 65535")

    def threads_of(self, cores: int) -> int | None:
        """Threads of the graph in each process, on so many cores; None leaves it to the engine, which takes all."""
        if self.threads is not None or self.workers == 1:
            return self.threads
        return max(1, cores // self.workers)

    @property
    def api(self) -> str:
        """The upstream's address with `/v1`."""
        base = self.upstream.rstrip("/")
        return base if base.endswith("/v1") else f"{base}/v1"
