"""Running many images through several gates: views in batches, failures kept to the image that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safevlm_runtime.clock import Clock
from safevlm_runtime.gate import Gate, Judged, Tensor
from safevlm_runtime.views import Found, View, views_of, worst_view
from safevlm_sdk.errors import SafeVLMError
from safevlm_sdk.raster import Frame

BATCH = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """An image that is decoded and waits for the graphs.

    Attributes:
        views: At least one.
        tensors: Per gate the input of the only view; None for several views, whose inputs would fill the memory.
        clock: Times so far.
        source_sha256: Of the encoded bytes; None for pixels.
    """

    views: list[View]
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
    """Makes an image ready: its views, and the graph's input if there is one view only."""
    views = views_of(frames)
    tensors = None
    if len(views) == 1:
        with clock.step("preprocess"):
            tensors = [gate.tensor(views[0].pixels) for gate in gates]
    return Prepared(views=views, tensors=tensors, clock=clock, source_sha256=source_sha256)


def judge_all(gates: Sequence[Gate], images: Sequence[Prepared], batch_size: int) -> list[list[Found] | Exception]:
    """What each gate finds in each image, or the exception that kept an image from being judged."""
    try:
        return list(_judge_together(gates, images, batch_size))
    except Exception as problem:
        if len(images) == 1:
            return [problem]
        # One image's failure must not become its neighbours': each gets a run of its own.
        return [judge_all(gates, [image], batch_size)[0] for image in images]


def describe_failure(problem: Exception) -> tuple[str, str]:
    """(code, reason) of a failure; the reason of a foreign exception is its type alone, for it may quote data."""
    if isinstance(problem, SafeVLMError):
        return problem.code, str(problem)
    return "internal_error", f"unexpected {type(problem).__name__}; nothing was judged: please report it"


def _judge_together(gates: Sequence[Gate], images: Sequence[Prepared], batch_size: int) -> list[list[Found]]:
    found: list[list[Found]] = [[] for _ in images]
    for number, gate in enumerate(gates):
        slots = [(image, view) for image in images for view in image.views]
        judged: list[Judged] = []
        for at in range(0, len(slots), batch_size):
            judged += _judge_batch(gate, number, slots[at : at + batch_size])
        done = 0
        for image, worst in zip(images, found, strict=True):
            count = len(image.views)
            worst.append(worst_view(image.views, judged[done : done + count]))
            done += count
    return found


def _judge_batch(gate: Gate, number: int, slots: Sequence[tuple[Prepared, View]]) -> list[Judged]:
    clock = Clock()
    with clock.step("preprocess"):
        tensors = [
            gate.tensor(view.pixels) if image.tensors is None else image.tensors[number] for image, view in slots
        ]
    judged = gate.judge(tensors, clock)
    for image, _ in slots:
        image.clock.add(clock, 1.0 / len(slots))
    return judged
