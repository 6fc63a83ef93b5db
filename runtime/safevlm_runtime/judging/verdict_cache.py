"""Verdicts on pixels that were judged before, by the same bundles under the same rules."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from safevlm_runtime.judging.batches import Prepared, Refused
from safevlm_runtime.judging.clock import Clock
from safevlm_runtime.judging.panel import Panel
from safevlm_sdk.errors import OptionError
from safevlm_sdk.raster import raster_digest
from safevlm_sdk.strict import canonical_json
from safevlm_sdk.verdict import Verdict

Images = Sequence[Prepared | Refused]


class VerdictCache:
    """The last verdicts, by the pixels and rules that they follow from; used from any thread.

    It holds no failed verdict, and no pixels. An entry is found by all pictures of an image, which are its frames
    over every background; by the bundles, whose digests speak for their view plans and thresholds; and by the
    policies as they are for the image's source on that day. A reload or an override that ends leaves old entries
    unfound.

    Args:
        entries: Most verdicts; the one that was not asked for the longest goes first.

    Raises:
        OptionError: There is no room for a single one.
    """

    def __init__(self, entries: int) -> None:
        if entries < 1:
            raise OptionError(f"the cache has room for {entries} verdicts; give at least 1, or 0 for no cache")
        self._entries = entries
        self._found: OrderedDict[str, Verdict] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._found)

    def verdicts(self, panel: Panel, images: Images, judge: Callable[[Images], list[Verdict]]) -> list[Verdict]:
        """A verdict on each image, of which `judge` gives those that are not held."""
        rules = rules_key(panel)
        keys = [pixels_key(rules, image) if isinstance(image, Prepared) else None for image in images]
        held = [None if key is None else self._get(key) for key in keys]
        judged = iter(judge([image for image, known in zip(images, held, strict=True) if known is None]))
        found = []
        for image, key, known in zip(images, keys, held, strict=True):
            if known is not None:
                found.append(_taken(known, image.clock, image.source_sha256))
                continue
            verdict = next(judged)
            if key is not None and not _failed(verdict):
                self._put(key, verdict)
            found.append(verdict)
        return found

    def _get(self, key: str) -> Verdict | None:
        with self._lock:
            verdict = self._found.get(key)
            if verdict is not None:
                self._found.move_to_end(key)
            return verdict

    def _put(self, key: str, verdict: Verdict) -> None:
        kept = replace(verdict, attention=_frozen(verdict.attention), categories=dict(verdict.categories))
        with self._lock:
            self._found[key] = kept
            self._found.move_to_end(key)
            while len(self._found) > self._entries:
                self._found.popitem(last=False)


def rules_key(panel: Panel) -> str:
    """Everything but pixels that a verdict follows from."""
    rules = [
        panel.bundle_digests,
        panel.policy_digests,
        [policy.digest for policy in panel.policies],
        panel.uncovered,
        panel.notes,
    ]
    return hashlib.sha256(canonical_json(rules)).hexdigest()


def pixels_key(rules: str, image: Prepared) -> str:
    """The rules and every picture of an image, with what it is called."""
    pictures = [view for view in image.views[0] if view.box is None]
    if len(pictures) == 1:
        return f"{rules} {pictures[0].sha256}"
    # A frame's digest is of its white composite alone: the other backgrounds count as much.
    return " ".join([rules, *(f"{view.name}={raster_digest(view.pixels)}" for view in pictures)])


def _failed(verdict: Verdict) -> bool:
    """Whether any gate failed, also one that only observes."""
    return verdict.error is not None or any(view.error is not None for view in verdict.views)


def _taken(verdict: Verdict, clock: Clock, source_sha256: str | None) -> Verdict:
    """A held verdict for another file of the same pixels, with the times of this check."""
    return replace(
        verdict,
        categories=dict(verdict.categories),
        timings_ms=clock.timings(),
        source_sha256=source_sha256,
        cached=True,
    )


def _frozen(attention: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    """A copy that nobody can change."""
    if attention is None:
        return None
    copy = attention.copy()
    copy.flags.writeable = False
    return copy
