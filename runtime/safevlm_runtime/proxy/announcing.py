"""What the server says of itself: at its start, and of every policy that is put in force."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from safevlm_runtime import Runtime
from safevlm_runtime.proxy.gateway import coverage_of
from safevlm_runtime.proxy.settings import Settings
from safevlm_sdk.policy_fit import unknown_source

ENDED: Final = "gate: ended"


def announce(settings: Settings, runtime: Runtime, port: int, say: Callable[[str], None]) -> None:
    """Says what is served, what the gate looks for, and what whoever relies on it should know."""
    coverage = coverage_of(runtime)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    say(f"gate: http://{host}:{port}/v1 -> {settings.api}")
    say(f"page: http://{host}:{port}/")
    say(f"looked for: {', '.join(coverage.covered)}; for nothing else")
    if coverage.uncovered:
        say(f"wanted by the policy but not covered: {', '.join(coverage.uncovered)}")
    for digest, name in coverage.bundles.items():
        say(f"bundle: {name} {digest}; provider: {coverage.provider}")
    for digest, name in coverage.policies.items():
        say(f"policy: {name} {digest}")
    sources = runtime.sources
    if sources and settings.source in sources:
        say(f"source: {settings.source}")
    elif sources:
        say(f"source: none (the policy has: {', '.join(sources)})")
    if settings.image_hosts:
        say(f"images are fetched from: {', '.join(settings.image_hosts)}")
    for warning in warnings_of(runtime, settings.source):
        say(f"warning: {warning}")


def warnings_of(runtime: Runtime, source: str | None) -> tuple[str, ...]:
    """`Runtime.warnings`, and that the policy does not have the source that all images are said to come from."""
    unknown = unknown_source(source, runtime.sources)
    return runtime.warnings if unknown is None else (*runtime.warnings, unknown)
