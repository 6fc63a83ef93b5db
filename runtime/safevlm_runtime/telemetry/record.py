"""What the decision log says of a verdict: digests and closed words, no text that a stranger wrote."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any

from safevlm_runtime.judging.observer import Event
from safevlm_sdk.verdict import Verdict

RECORD_SCHEMA = 1

_PLAIN = re.compile(r"[A-Za-z0-9._:-]{1,80}")


def record_of(verdict: Verdict, event: Event) -> dict[str, Any]:
    """One line of the decision log, as JSON takes it.

    The reason of a failed verdict is left out: it may quote the name of a file. The safety prompt is left out too.
    """
    return {
        "schema": RECORD_SCHEMA,
        "time": datetime.fromtimestamp(event.moment, timezone.utc).isoformat(timespec="milliseconds"),
        "entry": event.entry,
        "request_id": plain(event.request_id),
        "source": plain(event.source),
        "action": verdict.action.value,
        "observed": None if verdict.observed is None else verdict.observed.value,
        "category": verdict.category,
        "level": None if verdict.level is None else int(verdict.level),
        "score": verdict.score,
        "categories": dict(verdict.categories),
        "error": verdict.error,
        "region": None if verdict.region is None else list(verdict.region),
        "reason": verdict.reason if verdict.error is None else None,
        "blocked": event.blocked,
        "prompt_mixed": event.prompt_mixed,
        "cached": verdict.cached,
        "timings_ms": {step: round(ms, 3) for step, ms in verdict.timings_ms.items()},
        "provider": verdict.provider,
        "source_sha256": verdict.source_sha256,
        "raster_sha256": verdict.raster_sha256,
        "bundle_digests": list(verdict.bundle_digests),
        "policy_digests": list(verdict.policy_digests),
    }


def plain(name: str | None) -> str | None:
    """The name if it is a short plain word, else the start of its SHA-256: a stranger may have chosen it."""
    if name is None or _PLAIN.fullmatch(name):
        return name
    return "sha256:" + sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
