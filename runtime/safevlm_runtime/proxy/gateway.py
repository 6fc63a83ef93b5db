"""Everything that one worker process shares among its requests."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from safevlm_runtime.judging.observer import Observer
from safevlm_runtime.proxy.admission import Admission, judged_at_once
from safevlm_runtime.proxy.gating import Gate, Screener
from safevlm_runtime.proxy.reading import Buffered
from safevlm_runtime.proxy.remote_images import RemoteImages, check_host
from safevlm_runtime.proxy.settings import Settings
from safevlm_runtime.proxy.upstream import Upstream
from safevlm_runtime.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What the gate looks for, and with what.

    Attributes:
        covered: Risks that are looked for.
        uncovered: Risks that a policy wants and no bundle covers.
        bundles: Digest to name.
        policies: Digest to name.
        provider: The execution provider in use.
    """

    covered: tuple[str, ...]
    uncovered: tuple[str, ...]
    bundles: dict[str, str]
    policies: dict[str, str]
    provider: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "covered": list(self.covered),
            "uncovered": list(self.uncovered),
            "bundles": self.bundles,
            "policies": self.policies,
            "provider": self.provider,
        }


def coverage_of(runtime: Any) -> Coverage:
    """What a `Runtime` covers."""
    return Coverage(
        covered=tuple(runtime.covered),
        uncovered=tuple(runtime.uncovered),
        bundles=dict(zip(runtime.digests, runtime.bundles, strict=True)),
        policies={policy.digest: policy.name for policy in runtime.policies},
        provider=runtime.provider,
    )


@dataclass(slots=True, kw_only=True, eq=False)
class Gateway:
    """The parts that requests share; `coverage` alone changes, when another policy is put in force."""

    settings: Settings
    gate: Gate
    coverage: Coverage
    admission: Admission
    buffered: Buffered
    upstream: Upstream
    remote: RemoteImages
    metrics: Metrics

    def cover(self, coverage: Coverage) -> None:
        """Says from now on that this is what the gate looks for, in answers and metrics."""
        self.coverage = coverage
        self.metrics.describe(provider=coverage.provider, bundles=coverage.bundles, policies=coverage.policies)

    async def close(self) -> None:
        """Takes no further work and closes connections."""
        self.admission.close()
        await self.upstream.close()


def cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def open_gateway(
    settings: Settings,
    screener: Screener,
    coverage: Coverage,
    observers: tuple[Observer, ...] = (),
    *,
    remote: RemoteImages | None = None,
    upstream: Upstream | None = None,
) -> Gateway:
    """Puts the parts together, within a running event loop.

    Args:
        settings: Of this process.
        screener: The runtime.
        coverage: Of the runtime.
        observers: Beside the metrics.
        remote: Where images are fetched from, if not by the settings.
        upstream: What is asked, if not by the settings.

    Raises:
        OptionError: A host that images may come from is no name.
    """
    limits = settings.limits
    metrics = Metrics(coverage.covered)
    hosts = frozenset(check_host(host) for host in settings.image_hosts)
    gateway = Gateway(
        settings=settings,
        gate=Gate(screener=screener, observers=(metrics, *observers), source=settings.source),
        coverage=coverage,
        admission=Admission(
            running=judged_at_once(cores(), settings.workers) if limits.judging is None else limits.judging,
            waiting=limits.waiting,
            burst_seconds=limits.burst_seconds,
            meter=metrics,
        ),
        buffered=Buffered(limits.buffered_bytes),
        upstream=Upstream(settings) if upstream is None else upstream,
        remote=RemoteImages(hosts=hosts, max_bytes=limits.image_bytes) if remote is None else remote,
        metrics=metrics,
    )
    gateway.cover(coverage)
    return gateway
