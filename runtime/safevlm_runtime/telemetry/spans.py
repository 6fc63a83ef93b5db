"""A span per verdict for OpenTelemetry, below the span in which the image was judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safevlm_runtime.judging.observer import Event
from safevlm_runtime.telemetry.record import plain
from safevlm_sdk.errors import MissingExtra
from safevlm_sdk.verdict import Verdict
from safevlm_sdk.version import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider
    from opentelemetry.util.types import AttributeValue


class Spans:
    """An `Observer` that makes a span `safevlm.check` of each verdict, as long as the check took.

    Args:
        provider: Where spans go; None takes the application's global one.

    Raises:
        MissingExtra: opentelemetry-api is not installed.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        try:
            from opentelemetry import trace
        except ImportError as problem:
            raise MissingExtra("opentelemetry-api", "tracing") from problem
        self._trace = trace
        self._tracer = trace.get_tracer("safevlm", __version__, provider)

    def judged(self, verdict: Verdict, event: Event) -> None:
        """Makes the span of a verdict, ended at the event's moment."""
        end = int(event.moment * 1e9)
        start = end - int(verdict.timings_ms.get("total", 0.0) * 1e6)
        span = self._tracer.start_span("safevlm.check", start_time=start, attributes=_attributes(verdict, event))
        if verdict.error is not None:
            span.set_status(self._trace.StatusCode.ERROR, verdict.error)
        span.end(end)


def _attributes(verdict: Verdict, event: Event) -> dict[str, AttributeValue]:
    """Closed words, digests and numbers; never a reason, a prompt or a name that a stranger chose."""
    known: dict[str, AttributeValue | None] = {
        "entry": event.entry,
        "request_id": plain(event.request_id),
        "source": plain(event.source),
        "action": verdict.action.value,
        "observed": None if verdict.observed is None else verdict.observed.value,
        "category": verdict.category,
        "level": None if verdict.level is None else int(verdict.level),
        "score": verdict.score,
        "error": verdict.error,
        "blocked": event.blocked,
        "prompt_mixed": event.prompt_mixed,
        "provider": verdict.provider,
        "raster_sha256": verdict.raster_sha256,
        "bundle_digests": verdict.bundle_digests,
        "policy_digests": verdict.policy_digests,
    }
    known |= {f"{step}_ms": ms for step, ms in verdict.timings_ms.items()}
    return {f"safevlm.{name}": value for name, value in known.items() if value is not None}
