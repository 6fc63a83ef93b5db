"""A conversation after the gate: what goes on to an engine, or that nothing does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from safevlm_runtime.guard.done import done
from safevlm_runtime.judging.worst import safety_note
from safevlm_sdk.chat import Image, Message, Part, Seen, Text, images_of
from safevlm_sdk.policy import Action
from safevlm_sdk.raster import Frame
from safevlm_sdk.safety_prompt import with_safety_prompt
from safevlm_sdk.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Screened:
    """What the gate leaves of a conversation.

    Attributes:
        messages: With judged images alone, and with safety prompts; empty where nothing goes on.
        verdicts: One per image, in reading order; of one that could not be decoded, a verdict that blocks.
        mixed: A safety prompt was put into a message.
        seen: What the engine's own tower saw, where it was asked to look.
    """

    messages: tuple[Message, ...]
    verdicts: tuple[Verdict, ...]
    mixed: bool = False
    seen: Seen | None = None

    @property
    def refused(self) -> bool:
        """Nothing goes on."""
        return not self.messages


def screened(
    messages: Sequence[Message], frames: Sequence[Frame | None], verdicts: Sequence[Verdict], seen: Seen | None = None
) -> Screened:
    """Lets a conversation through, or nothing of it.

    Args:
        messages: With N images in reading order.
        frames: [N] what may go on for each image; None where there is nothing that could.
        verdicts: [N].
        seen: From the engine.

    Raises:
        ValueError: There are not N frames and N verdicts.
    """
    if not len(images_of(messages)) == len(frames) == len(verdicts):
        raise ValueError(f"{len(images_of(messages))} images, {len(frames)} frames and {len(verdicts)} verdicts")
    given = tuple(done(verdict, decoded=frame is not None) for frame, verdict in zip(frames, verdicts, strict=True))
    if any(frame is None or verdict.action is Action.BLOCK for frame, verdict in zip(frames, given, strict=True)):
        return Screened(messages=(), verdicts=given)
    left = iter(given)
    framed = with_frames(messages, [frame for frame in frames if frame is not None])
    passed = tuple(_noted(message, [next(left) for _ in message.images]) for message in framed)
    mixed = any(verdict.safety_prompt for verdict in given)
    return Screened(messages=passed, verdicts=given, mixed=mixed, seen=seen)


def with_frames(messages: Sequence[Message], frames: Sequence[Frame]) -> tuple[Message, ...]:
    """A conversation with N images, in which each is the frame [N] that stands for it."""
    left = iter(frames)
    return tuple(
        replace(message, parts=_framed(message.parts, [next(left) for _ in message.images])) for message in messages
    )


def _framed(parts: tuple[Part, ...], frames: Sequence[Frame]) -> tuple[Part, ...]:
    left = iter(frames)
    return tuple(Image(judged=next(left)) if isinstance(part, Image) else part for part in parts)


def _noted(message: Message, verdicts: Sequence[Verdict]) -> Message:
    """The message with the safety prompt of its worst image behind its last text, or as a text where it has none."""
    note = safety_note(verdicts)
    if not note:
        return message
    parts = message.parts
    at = max((number for number, part in enumerate(parts) if isinstance(part, Text)), default=None)
    if at is None:
        return replace(message, parts=(*parts, Text(text=note)))
    text = Text(text=with_safety_prompt(parts[at].text, note))  # type: ignore[union-attr] # it is a Text
    return replace(message, parts=(*parts[:at], text, *parts[at + 1 :]))
