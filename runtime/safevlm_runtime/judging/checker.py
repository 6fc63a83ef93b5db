"""The way of one image, or of several, through decoding, gates and fusion, under the rules that are handed in."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from safevlm_runtime.bundle.loading import close_gates
from safevlm_runtime.judging.batches import Prepared, Refused, describe_failure, judge_all, prepare, unjudged
from safevlm_runtime.judging.clock import Clock
from safevlm_runtime.judging.fusion import Adjust, failed_verdict, verdict_of
from safevlm_runtime.judging.gate import Gate, Judged
from safevlm_runtime.judging.panel import Panel
from safevlm_runtime.judging.verdict_cache import VerdictCache
from safevlm_runtime.judging.views import Found
from safevlm_sdk.errors import EngineError, FeaturesMismatch
from safevlm_sdk.features import VisionFeatures
from safevlm_sdk.policy import Policy
from safevlm_sdk.raster import Frame, ImageSource, IsolatedDecoder, Limits, Raster, decode, from_array, read_source
from safevlm_sdk.verdict import Verdict


class Checker:
    """Gates and a decoder, used from any thread; nothing that is wrong with an image is raised, but by `raster`."""

    def __init__(self, gates: Sequence[Gate], *, isolate_decoding: bool, cache_entries: int) -> None:
        self.gates = tuple(gates)
        self.max_side = max(gate.manifest.view_plan.raster_max_side for gate in self.gates)
        self._decoder = IsolatedDecoder() if isolate_decoding else None
        self._cache = VerdictCache(cache_entries) if cache_entries else None
        self._closed = False

    def close(self) -> None:
        """Frees sessions and the decoding process."""
        self._closed = True
        close_gates(self.gates)
        if self._decoder is not None:
            self._decoder.close()

    def raster(self, image: ImageSource, limits: Limits) -> Raster:
        """The canonical raster of an image.

        Raises:
            ImageError: The image cannot be judged.
        """
        read = decode if self._decoder is None else self._decoder.decode
        return read(image, limits=limits, max_side=self.max_side)

    def decoded(self, image: ImageSource, limits: Limits) -> tuple[Prepared | Refused, Raster | None]:
        """The image ready for the graphs, or what kept it from being so; and its raster, if it has one."""
        clock = Clock()
        taken: object = None
        raster = None
        try:
            if self._closed:
                raise EngineError("the runtime is closed; load it again")
            with clock.step("decode"):
                taken = data = read_source(image, limits)
                raster = self.raster(data, limits)
            return prepare(self.gates, raster.frames, clock, raster.source_sha256), raster
        except Exception as problem:
            digest = sha256(taken).hexdigest() if isinstance(taken, bytes) else None
            return Refused(problem=problem, clock=clock, source_sha256=digest), raster

    def prepared(self, image: ImageSource, limits: Limits) -> Prepared | Refused:
        """`decoded`, without the raster."""
        return self.decoded(image, limits)[0]

    def pixels(self, array: NDArray[np.uint8]) -> Prepared | Refused:
        """Trusted pixels [H, W, 3], ready for the graphs."""
        clock = Clock()
        try:
            frames: list[Frame] = [from_array(array)]
            return prepare(self.gates, frames, clock)
        except Exception as problem:
            return Refused(problem=problem, clock=clock, source_sha256=None)

    def judge(
        self, panel: Panel, images: Sequence[Prepared | Refused], batch_size: int, adjust: Adjust | None = None
    ) -> list[Verdict]:
        """A verdict on each image; `adjust` is what other frames of a camera make of its action."""
        if self._cache is None or adjust is not None or self._closed:
            return self._judge(panel, images, batch_size, adjust)
        return self._cache.verdicts(panel, images, lambda new: self._judge(panel, new, batch_size, None))

    def features(self, panel: Panel, features: VisionFeatures, mask: NDArray[np.bool_] | None) -> Verdict:
        """A verdict on features that the caller's own tower computed."""
        clock = Clock()
        found: list[Found] | Exception
        try:
            if not isinstance(features, VisionFeatures):
                raise FeaturesMismatch(f"a {type(features).__name__} is no features; pass VisionFeatures")
            judged = [
                _judged_features(gate, (features, mask), policy, clock)
                for gate, policy in zip(self.gates, panel.policies, strict=True)
            ]
            found = [
                Found(decision=one.decision, attention=one.attention, sha256=features.raster_sha256) for one in judged
            ]
        except Exception as problem:
            found = problem
        return _verdict(panel, found, (clock, None), None)

    def _judge(
        self, panel: Panel, images: Sequence[Prepared | Refused], batch_size: int, adjust: Adjust | None
    ) -> list[Verdict]:
        good = [image for image in images if isinstance(image, Prepared)]
        found = iter(judge_all(self.gates, panel.policies, good, batch_size))
        return [
            _verdict(panel, next(found), (image.clock, image.source_sha256), adjust)
            if isinstance(image, Prepared)
            else _failed(panel, image.problem, (image.clock, image.source_sha256), adjust, ran=False)
            for image in images
        ]


def _judged_features(
    gate: Gate, given: tuple[VisionFeatures, NDArray[np.bool_] | None], policy: Policy, clock: Clock
) -> Judged:
    try:
        return gate.judge_features(*given, policy, clock)
    except Exception as problem:
        return unjudged(problem, policy)


def _verdict(
    panel: Panel, found: list[Found] | Exception, taken: tuple[Clock, str | None], adjust: Adjust | None
) -> Verdict:
    if not isinstance(found, Exception):
        try:
            return verdict_of(panel, found, taken[0].timings(), taken[1], adjust)
        except Exception as problem:
            found = problem
    return _failed(panel, found, taken, adjust, ran=True)


def _failed(
    panel: Panel, problem: Exception, taken: tuple[Clock, str | None], adjust: Adjust | None, *, ran: bool
) -> Verdict:
    clock, source_sha256 = taken
    return failed_verdict(panel, describe_failure(problem), clock.timings(), source_sha256, ran=ran, adjust=adjust)
