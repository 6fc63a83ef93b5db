"""One loaded bundle with its sessions: pixels or features in, decisions out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safevlm_runtime.backends.backend import Backend, check_outputs
from safevlm_runtime.backends.ort_backend import OrtBackend, SessionOptions
from safevlm_runtime.backends.providers import Opener, open_graph, provider_name
from safevlm_runtime.bundle.contract import check_servable, choose_graph
from safevlm_runtime.bundle.reader import Bundle
from safevlm_runtime.bundle.self_test import SMALLEST_BATCH, fixed_batch, self_test
from safevlm_runtime.judging.clock import Clock
from safevlm_runtime.judging.tiles import Box
from safevlm_sdk.decision import Decision, decide, failed
from safevlm_sdk.errors import (
    BundleGraph,
    EngineError,
    FeaturesMismatch,
    OutputNotFinite,
    OutputShape,
)
from safevlm_sdk.features import VisionFeatures
from safevlm_sdk.manifest import DECISION_OUTPUTS, GATE, SAFETY_HEAD, Graph
from safevlm_sdk.policy import Policy
from safevlm_sdk.preprocess import preprocess
from safevlm_sdk.raster import capped

Pixels = NDArray[np.uint8]
Tensor = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """The decision on one view, with what it follows from.

    Attributes:
        decision: By the bundle's rule and the policy.
        attention: The head's, [rows, columns], if the graph gives it.
        type_logits: [labels], as the graph gave them.
        level_logprobs: [4], likewise.
    """

    decision: Decision
    attention: Tensor | None
    type_logits: Tensor
    level_logprobs: Tensor


class Gate:
    """One bundle, ready to judge from any thread."""

    def __init__(
        self,
        *,
        bundle: Bundle,
        policy: Policy,
        graph: Graph,
        backend: Backend,
        options: SessionOptions,
        opener: Opener,
        precision: str | None = None,
    ) -> None:
        self.manifest = bundle.manifest
        self.policy = policy
        self.rule = bundle.manifest.rule
        self.provider = backend.provider
        self._bundle = _heads_alone(bundle)
        self._graph, self._backend = graph, backend
        self._options, self._opener, self._precision = options, opener, precision
        self._head: tuple[Graph, Backend] | None = None
        self._head_lock = threading.Lock()
        self._batch_lock = threading.Lock()
        self._batches_proven = False
        self._closed = False

    def scaled(self, pixels: Pixels) -> Pixels:
        """A picture at the scale that the bundle declares."""
        return capped(pixels, self.manifest.view_plan.raster_max_side)

    def tensor(self, scaled: Pixels, box: Box | None = None) -> Tensor:
        """The graph's input, float32 [3, H, W], for a scaled picture or one tile of it."""
        if box is not None:
            left, top, right, bottom = box
            scaled = scaled[top:bottom, left:right]
        return preprocess(scaled, self.manifest.preprocessing)

    def judge(self, tensors: Sequence[Tensor], policy: Policy, clock: Clock) -> list[Judged]:
        """Judges views under a policy in one run, or one by one where the graph insists on it.

        Raises:
            EngineError: The graph failed; a view whose outputs are not finite is a failed decision instead.
            OutputShape: An output has another shape or dtype than the manifest states.
            BundleSelfTest: There are several views, and in batches the graph does not reproduce its golden outputs.
        """
        if len(tensors) > 1:
            self.prove_batches()
        size = fixed_batch(self._graph) or len(tensors)
        judged: list[Judged] = []
        for at in range(0, len(tensors), size):
            views = tensors[at : at + size]
            inputs = {"pixel_values": views[0][None] if len(views) == 1 else np.stack(views)}  # one needs no copy
            outputs = self._run(self._graph, self._backend, inputs, clock)
            judged += self._judged_rows(outputs, policy, self.manifest.identity.grid, clock)
        return judged

    def judge_features(
        self, features: VisionFeatures, mask: NDArray[np.bool_] | None, policy: Policy, clock: Clock
    ) -> Judged:
        """Judges, under a policy, features that the caller's own tower computed.

        Raises:
            FeaturesMismatch: They come from another tower, tap or shape, or the bundle has no graph for them.
            BundleSelfTest: The graph, loaded at the first call, does not reproduce its golden outputs.
            EngineError: The graph failed.
            OutputShape: As for `judge`.
        """
        valid = self._check_features(features, mask)
        graph, backend = self._loaded_head()
        inputs = {"features": np.ascontiguousarray(features.array[None]), "mask": valid[None]}
        return self._judged_rows(self._run(graph, backend, inputs, clock), policy, features.grid, clock)[0]

    def close(self) -> None:
        """Frees the sessions; judging then fails."""
        with self._head_lock:
            self._closed = True
            self._backend.close()
            if self._head is not None:
                self._head[1].close()

    def prove_batches(self) -> None:
        """Has the graph prove itself in batches, once, before the first one is run.

        At load that would take memory which one image after the other never takes.

        Raises:
            BundleSelfTest: In batches it does not reproduce its golden outputs.
        """
        with self._batch_lock:
            if not self._batches_proven and fixed_batch(self._graph) is None:
                self_test(self._bundle, self._graph, self._backend, batch=SMALLEST_BATCH)
                self._batches_proven = True

    def _run(self, graph: Graph, backend: Backend, inputs: dict[str, Any], clock: Clock) -> dict[str, NDArray[Any]]:
        wanted = [*DECISION_OUTPUTS]
        if any(spec.name == "attention" for spec in graph.outputs):
            wanted.append("attention")
        with clock.step("infer"):
            found = backend.run(inputs, wanted)
        # Whatever runs the graph and however: nothing is decided from outputs that the manifest does not state.
        missing = [name for name in wanted if name not in found]
        if missing:
            raise OutputShape(f"graph {graph.id} gave no {', '.join(missing)}; the backend that ran it is broken")
        check_outputs(graph, inputs, found)
        return found

    def _judged_rows(
        self, found: dict[str, NDArray[Any]], policy: Policy, grid: tuple[int, int] | None, clock: Clock
    ) -> list[Judged]:
        with clock.step("decide"):
            attention = found.get("attention")
            return [
                self._judged((types, levels, None if attention is None else attention[row]), policy, grid)
                for row, (types, levels) in enumerate(zip(*(found[name] for name in DECISION_OUTPUTS), strict=True))
            ]

    def _judged(
        self, outputs: tuple[Tensor, Tensor, Tensor | None], policy: Policy, grid: tuple[int, int] | None
    ) -> Judged:
        types, levels, attention = outputs
        decision = decide(types, levels, self.rule, policy)
        if attention is not None and decision.error is None and not np.isfinite(attention).all():
            decision = failed(OutputNotFinite.code, "the graph's attention holds NaN or infinity", policy)
        looked = None
        if attention is not None and grid is not None and decision.error is None:
            looked = attention.reshape(grid).astype(np.float32)
        return Judged(decision=decision, attention=looked, type_logits=types, level_logprobs=levels)

    def _check_features(self, features: VisionFeatures, mask: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        identity = self.manifest.identity
        if identity.grid is None or identity.feature_width is None:
            raise FeaturesMismatch(f"bundle {self.manifest.name!r} is an image classifier: it takes pixels only")
        if self.manifest.view_plan.tile is not None:
            raise FeaturesMismatch(
                f"bundle {self.manifest.name!r} looks at tiles, and features are of one look: pass pixels"
            )
        if not isinstance(features, VisionFeatures) or not isinstance(features.array, np.ndarray):
            raise FeaturesMismatch("pass VisionFeatures whose array is a numpy array")
        array = features.array
        for what, found, wanted in (
            ("tower_digest", features.tower_digest, identity.tower_digest),
            ("tap", features.tap, identity.tap),
            ("grid", tuple(features.grid), identity.grid),
        ):
            if found != wanted:
                raise FeaturesMismatch(f"the features' {what} is {found!r}, but the bundle was made for {wanted!r}")
        tokens = identity.grid[0] * identity.grid[1]
        if array.dtype != np.float32 or array.shape != (tokens, identity.feature_width):
            raise FeaturesMismatch(
                f"the features are {array.dtype} {array.shape}; this bundle needs "
                f"float32 {(tokens, identity.feature_width)}"
            )
        if not np.isfinite(array).all():
            raise FeaturesMismatch("the features hold NaN or infinity; look at the tower that computed them")
        valid = np.ones(tokens, dtype=np.bool_) if mask is None else np.asarray(mask)
        if valid.dtype != np.bool_ or valid.shape != (tokens,) or not valid.any():
            raise FeaturesMismatch(f"the mask is {valid.dtype} {valid.shape}; give bool ({tokens},), not all False")
        return valid

    def _loaded_head(self) -> tuple[Graph, Backend]:
        with self._head_lock:
            if self._closed:
                raise EngineError("the runtime is closed; load it again")
            if self._head is None:
                graph = choose_graph(self.manifest, SAFETY_HEAD, self.provider, self._precision)
                if graph is None:
                    raise FeaturesMismatch("the bundle has no safety_head graph: it takes pixels and no features")
                self._head = graph, open_backend(self._bundle, graph, self._options, self._opener)[0]
            return self._head


def open_gate(
    bundle: Bundle,
    *,
    policy: Policy | None = None,
    options: SessionOptions | None = None,
    allow_uncalibrated: bool = False,
    precision: str | None = None,
    opener: Opener = OrtBackend.load,
) -> Gate:
    """Builds a bundle's gate and lets it prove itself.

    Raises:
        BundleUncalibrated, BundleGraph, BundleSelfTest, BundleError: The bundle is refused.
        ProviderError, MissingExtra: The provider cannot be used.
    """
    options = SessionOptions() if options is None else options
    check_servable(bundle.manifest, allow_uncalibrated=allow_uncalibrated)
    provider = provider_name(options.provider)
    graph = choose_graph(bundle.manifest, GATE, provider, precision)
    if graph is None:
        raise BundleGraph(f"bundle {bundle.manifest.name!r} has no gate graph for {provider}; export it again")
    gate = Gate(
        bundle=bundle,
        policy=bundle.policy if policy is None else policy,
        graph=graph,
        backend=open_backend(bundle, graph, options, opener)[0],
        options=options,
        opener=opener,
        precision=precision,
    )
    if bundle.manifest.view_plan.tile is not None:  # its tiles go through the graph in batches
        try:
            gate.prove_batches()
        except BaseException:
            gate.close()
            raise
    return gate


def _heads_alone(bundle: Bundle) -> Bundle:
    """The bundle with no graphs but heads, which are opened later: a session has a copy, and graphs may be large."""
    heads = {graph.id for graph in bundle.manifest.graphs if graph.role == SAFETY_HEAD}
    graphs, weights = (
        {id: data for id, data in kept.items() if id in heads} for kept in (bundle.graphs, bundle.weights)
    )
    engines = {one.id: bundle.engines[one.id] for one in bundle.manifest.engines if one.graph in heads}
    return replace(bundle, graphs=graphs, weights=weights, engines=engines)


def open_backend(
    bundle: Bundle, graph: Graph, options: SessionOptions, opener: Opener
) -> tuple[Backend, dict[str, float]]:
    """A backend that reproduced the golden outputs one by one, and its largest difference from each.

    Raises:
        BundleSelfTest: It did not.
    """
    backend = open_graph(bundle, graph, options, opener)
    try:
        return backend, self_test(bundle, graph, backend)
    except BaseException:
        backend.close()
        raise
