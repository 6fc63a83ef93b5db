"""All images of a request judged, and the body that may go on: with judged pixels alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from safevlm_runtime.guard.done import done, refusal_of
from safevlm_runtime.guard.forwarded import data_url_of
from safevlm_runtime.judging.observer import Event, Observer, notify
from safevlm_runtime.judging.screening import Screening
from safevlm_runtime.judging.worst import safety_note, worst
from safevlm_runtime.proxy.parsed import ParsedRequest, Slot
from safevlm_runtime.proxy.strict_json import dumps
from safevlm_sdk.policy import DEFAULT_REFUSAL, Action
from safevlm_sdk.verdict import Verdict


class Screener(Protocol):
    """The part of `Runtime` that judges one image and hands over its raster."""

    def screen(self, image: bytes, *, source: str | None = None) -> Screening:
        """Judges one image; a bad one gives a failed verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What every request is judged with.

    Attributes:
        screener: Of images.
        observers: Are told of every verdict before anything goes on.
        source: Of the policy.
    """

    screener: Screener
    observers: tuple[Observer, ...] = ()
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """A request after the gate.

    Attributes:
        body: What is forwarded; None when nothing is.
        verdicts: One per image, in their order.
        refusal: What is answered instead; empty when something is forwarded.
    """

    body: bytes | None
    verdicts: tuple[Verdict, ...]
    refusal: str = ""

    @property
    def action(self) -> Action:
        """The hardest that follows from any image; ALLOW without images."""
        if self.body is None:
            return Action.BLOCK
        return worst(self.verdicts)[1].action if self.verdicts else Action.ALLOW

    @property
    def error(self) -> str | None:
        """The code of what failed, where the gate failed on an image."""
        return worst(self.verdicts)[1].error if self.verdicts else None


def gate_request(gate: Gate, request: ParsedRequest, images: Sequence[bytes], request_id: str) -> Gated:
    """Judges every image, and makes the body that goes on if every one of them may.

    An image that could not be decoded has no pixels that could go on: it stops the request, whatever `on_error` says,
    and observers are told of a verdict that blocks.

    Args:
        gate: What judges.
        request: Its body is changed in place.
        images: Encoded, one per slot.
        request_id: For the observers.

    Raises:
        ObserverFailed: An observer could not take note of a verdict.
    """
    found = [gate.screener.screen(image, source=gate.source) for image in images]
    verdicts = tuple(done(one.verdict, decoded=one.raster is not None) for one in found)
    blocked = any(
        one.raster is None or verdict.action is Action.BLOCK for one, verdict in zip(found, verdicts, strict=True)
    )
    tell(gate, verdicts, request_id, blocked=blocked)
    if blocked:
        return Gated(body=None, verdicts=verdicts, refusal=refusal_of(verdicts) or DEFAULT_REFUSAL)
    for slot, one in zip(request.slots, found, strict=True):
        if one.raster is not None:
            slot.put(data_url_of(one.raster.frames[0].pixels))
    _add_notes(request.slots, verdicts)
    return Gated(body=dumps(request.body), verdicts=verdicts)


def tell(gate: Gate, verdicts: Sequence[Verdict], request_id: str, *, blocked: bool) -> None:
    """Tells the observers of the verdicts on one request.

    Raises:
        ObserverFailed: One of them failed.
    """
    for verdict in verdicts:
        event = Event(
            entry="proxy",
            moment=time.time(),
            source=gate.source,
            request_id=request_id,
            prompt_mixed=bool(verdict.safety_prompt) and not blocked,
            blocked=blocked,
        )
        notify(gate.observers, verdict, event)


def _add_notes(slots: Sequence[Slot], verdicts: Sequence[Verdict]) -> None:
    """Puts the worst image's safety prompt behind the question of each turn that has images."""
    turns: dict[int, tuple[Slot, list[Verdict]]] = {}
    for slot, verdict in zip(slots, verdicts, strict=True):
        turns.setdefault(id(slot.parts), (slot, []))[1].append(verdict)
    for slot, of_turn in turns.values():
        note = safety_note(of_turn)
        if note:
            slot.add_note(note)
