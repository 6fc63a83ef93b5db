"""What a loaded gate gives for an image before any threshold, by the very path of a check."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from safevlm_runtime.judging.batches import BATCH, describe_failure, gate_views, tensors_of
from safevlm_runtime.judging.clock import Clock
from safevlm_runtime.judging.gate import Gate
from safevlm_runtime.judging.views import views_of
from safevlm_runtime.runtime import Runtime
from safevlm_sdk.calibration.samples import Seen
from safevlm_sdk.errors import EngineError, OutputNotFinite, SafeVLMError
from safevlm_sdk.view_plan import ViewPlan


class GateJudge:
    """Judges files with one gate; close it afterwards.

    Args:
        gate: Opened; its policy says which frames are judged.
        plan: The views that each frame is judged by; of the gate's own scale.

    Raises:
        PolicyError: The policy does not fit the gate.
    """

    def __init__(self, gate: Gate, plan: ViewPlan) -> None:
        self._gate = gate
        self._plan = plan
        self._runtime = Runtime([gate])

    def __call__(self, path: Path) -> Seen:
        """Every view of one image.

        Raises:
            SafeVLMError: The image or the gate failed, as a check would report it.
        """
        try:
            return self._seen(path)
        except SafeVLMError:
            raise
        except Exception as problem:
            raise EngineError(describe_failure(problem)[1]) from problem

    def close(self) -> None:
        """Frees the sessions."""
        self._runtime.close()

    def _seen(self, path: Path) -> Seen:
        raster = self._runtime.raster(path)
        views, clock = gate_views(self._gate, views_of(raster.frames), self._plan), Clock()
        tensors, judged = tensors_of(self._gate, views), []
        while batch := list(islice(tensors, BATCH)):
            judged += self._gate.judge(batch, self._gate.policy, clock)
        for one in judged:
            if one.decision.error is not None:
                raise OutputNotFinite(one.decision.reason)
        return Seen(
            type_logits=np.stack([one.type_logits for one in judged]),
            level_logprobs=np.stack([one.level_logprobs for one in judged]),
            pixels=raster.frames[0].pixels,
            source_sha256=raster.source_sha256 or raster.frames[0].sha256,
        )
