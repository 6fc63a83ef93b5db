"""A picture that is judged before anybody's, so that readiness means that the next one is judged at once."""

from __future__ import annotations

import io

from PIL import Image

from safevlm_runtime import Runtime
from safevlm_sdk.errors import EngineError

SIDE = 64


def warm_up(runtime: Runtime, source: str | None) -> None:
    """Has the whole gate judge a drawn picture: starts the decoding process, and lets the graphs prove batches.

    Nobody is told of the verdict.

    Args:
        runtime: Judges.
        source: As for `Runtime.check`.

    Raises:
        EngineError: The gate failed on it, as it would fail on every other one.
    """
    verdict = runtime.check(transparent_picture(), source=source)
    failed = [view.error for view in verdict.views if view.error is not None]
    if verdict.error is None and not failed:
        return
    what = f"{verdict.error}: {verdict.reason}" if verdict.error is not None else failed[0]
    raise EngineError(
        f"the gate fails on a picture of its own, and would on every other one ({what}); repair that and start it "
        "again. A slow processor may need --engine-seconds, and a platform that cannot isolate decoding --no-isolate"
    )


def transparent_picture() -> bytes:
    """A PNG, half transparent: it is judged over several backgrounds, and so in a batch."""
    file = io.BytesIO()
    Image.new("RGBA", (SIDE, SIDE), (90, 120, 60, 128)).save(file, "PNG")
    return file.getvalue()
