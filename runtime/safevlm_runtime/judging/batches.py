"""Running many images through several gates: views in batches, failures kept to the image that they belong to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from safevlm_runtime.judging.clock import Clock
from safevlm_runtime.judging.gate import Gate, Judged, Tensor
from safevlm_runtime.judging.tiles import needs_square
from safevlm_runtime.judging.views import Found, View, views_of, with_tiles, worst_view
from safevlm_sdk.decision import failed
from safevlm_sdk.errors import SafeVLMError
from safevlm_sdk.policy import Policy
from safevlm_sdk.raster import Frame
from safevlm_sdk.view_plan import ViewPlan

BATCH = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """An image that is decoded and waits for the graphs.

    Attributes:
        views: Per gate, at least one.
        tensors: Per gate the input of its only view; None for several views, whose inputs would fill the memory.
        clock: Times so far.
        source_sha256: Of the encoded bytes; None for pixels.
    """

    views: list[list[View]]
    tensors: list[Tensor] | None
    clock: Clock
    source_sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Refused:
    """An image that is not judged: why, how long that took to know, and the digest of its bytes if they were read."""

    problem: Exception
    clock: Clock
    source_sha256: str | None


def prepare(
    gates: Sequence[Gate], frames: Sequence[Frame], clock: Clock, source_sha256: str | None = None
) -> Prepared:
    """Makes an image ready: its views, and the graphs' inputs if each gate has one view only.

    Raises:
        ImageTooManyViews: Covering the image takes more views than a gate's view plan allows.
    """
    pictures = views_of(frames)
    views = [gate_views(gate, pictures, gate.manifest.view_plan) for gate in gates]
    tensors = None
    if all(len(of_gate) == 1 for of_gate in views):
        with clock.step("preprocess"):
            tensors = [gate.tensor(gate.scaled(pictures[0].pixels)) for gate in gates]
    return Prepared(views=views, tensors=tensors, clock=clock, source_sha256=source_sha256)


def gate_views(gate: Gate, pictures: Sequence[View], plan: ViewPlan) -> list[View]:
    """The pictures of an image and their tiles.

    Args:
        gate: Tiles are cut at its scale.
        pictures: Every frame over every background.
        plan: The gate's own, or the one that it is being calibrated for.

    Raises:
        ImageTooManyViews: A picture takes more views than the plan allows.
    """
    square = needs_square(gate.manifest.preprocessing)
    return [view for picture in pictures for view in with_tiles(picture, plan, square=square)]


def tensors_of(gate: Gate, views: Sequence[View]) -> Iterator[Tensor]:
    """The gate's input for each view, made when it is asked for; a picture is scaled once for all its tiles."""
    last: View | None = None
    for view in views:
        if last is None or view.pixels is not last.pixels:
            scaled = gate.scaled(view.pixels)
        last = view
        yield gate.tensor(scaled, view.box)


def judge_all(
    gates: Sequence[Gate], policies: Sequence[Policy], images: Sequence[Prepared], batch_size: int
) -> list[list[Found] | Exception]:
    """What each gate finds in each image under its policy, or the exception that kept an image from being judged.

    Where a gate fails on a view, that is what it finds there: what other views and gates found stands.
    """
    try:
        return list(_judge_together(gates, policies, images, batch_size))
    except Exception as problem:
        if len(images) == 1:
            return [problem]
        # One image's failure must not become its neighbours': each gets a run of its own.
        return [judge_all(gates, policies, [image], batch_size)[0] for image in images]


def describe_failure(problem: Exception) -> tuple[str, str]:
    """(code, reason) of a failure; the reason of a foreign exception is its type alone, for it may quote data."""
    if isinstance(problem, SafeVLMError):
        return problem.code, str(problem)
    return "internal_error", f"unexpected {type(problem).__name__}; nothing was judged: please report it"


def unjudged(problem: Exception, policy: Policy) -> Judged:
    """What a gate finds where it fails: the policy's `on_error`, and no risk claimed."""
    code, reason = describe_failure(problem)
    nothing = np.empty(0, np.float32)
    return Judged(decision=failed(code, reason, policy), attention=None, type_logits=nothing, level_logprobs=nothing)


def _judge_together(
    gates: Sequence[Gate], policies: Sequence[Policy], images: Sequence[Prepared], batch_size: int
) -> list[list[Found]]:
    found: list[list[Found]] = [[] for _ in images]
    alone = len(images) == 1
    for number, (gate, policy) in enumerate(zip(gates, policies, strict=True)):
        inputs = _inputs(gate, number, images)
        judged = _judge_views(gate, policy, inputs, batch_size)
        for image, worst in zip(images, found, strict=True):
            views = image.views[number]
            wanted = islice(judged, len(views))
            worst.append(worst_view(views, _with_failures(wanted, policy, len(views)) if alone else list(wanted)))
    return found


def _with_failures(judged: Iterator[Judged], policy: Policy, count: int) -> list[Judged]:
    """So many views; those that a failure kept from being judged are failed decisions."""
    found: list[Judged] = []
    try:
        for one in judged:
            found.append(one)
    except Exception as problem:
        found += [unjudged(problem, policy)] * (count - len(found))
    return found


def _inputs(gate: Gate, number: int, images: Sequence[Prepared]) -> Iterator[tuple[Prepared, Tensor]]:
    """The input of a gate for every view of every image, made when it is asked for."""
    for image in images:
        for tensor in tensors_of(gate, image.views[number]) if image.tensors is None else [image.tensors[number]]:
            yield image, tensor


def _judge_views(
    gate: Gate, policy: Policy, inputs: Iterator[tuple[Prepared, Tensor]], batch_size: int
) -> Iterator[Judged]:
    """Every view, in order; no more inputs than one batch exist at a time."""
    while True:
        clock = Clock()
        with clock.step("preprocess"):
            batch = list(islice(inputs, batch_size))
        if not batch:
            return
        judged = gate.judge([tensor for _, tensor in batch], policy, clock)
        for image, _ in batch:
            image.clock.add(clock, 1.0 / len(batch))
        yield from judged
