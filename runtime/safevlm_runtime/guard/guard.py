"""`Guard`: a gate in front of an engine. Nothing is asked of it before every image of every turn was judged."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

from safevlm_runtime.guard.asking import check_engine, checked_pieces, checked_reply, later_reply
from safevlm_runtime.guard.conversation import MAX_IMAGES, Given, read_conversation
from safevlm_runtime.guard.done import refusal_of
from safevlm_runtime.guard.screened import Screened
from safevlm_runtime.guard.shared_tower import judge_pixels, look_and_judge, shared_source
from safevlm_runtime.guard.streams import AsyncStream, Stream
from safevlm_runtime.judging.observer import Event, Observer, notify
from safevlm_sdk.chat import Message, Reply, Request, images_of
from safevlm_sdk.engine import Engine, SeeingEngine
from safevlm_sdk.policy import Action
from safevlm_sdk.raster import ImageSource
from safevlm_sdk.verdict import Verdict

if TYPE_CHECKING:
    from safevlm_runtime.runtime import Runtime

OnVerdict = Callable[[Verdict], object]

_log = logging.getLogger(__name__)


class Guard:
    """Asks an engine only what a runtime let through; safe to use from many threads.

    Where an image is blocked, or where there is nothing of it that could go on, no engine is asked, and the reply is
    the policy's refusal with `refused` set. Else the engine gets the judged pixels, never the original bytes; where a
    policy says so, with a safety prompt behind the last text of the turn that holds the image.

    Args:
        runtime: Judges; it stays the caller's to close.
        engine: Answers; likewise.
        on_block: Is told of each verdict that blocks. What it raises is logged by its type and changes nothing.
        on_error: The same for each image on which the gate failed.
        observers: Are told of every verdict before the engine is asked; if one fails, the engine is not asked.
        max_images: Of one request, over all of its turns.

    Raises:
        OptionError: The engine lacks a method that a guard calls.
    """

    def __init__(
        self,
        runtime: Runtime,
        engine: Engine,
        *,
        on_block: OnVerdict | None = None,
        on_error: OnVerdict | None = None,
        observers: Sequence[Observer] = (),
        max_images: int = MAX_IMAGES,
    ) -> None:
        check_engine(engine)
        self._runtime = runtime
        self._engine = engine
        self._on_block, self._on_error = on_block, on_error
        self._observers = tuple(observers)
        self._max_images = max_images
        shared = shared_source(runtime.feature_sources, engine) is not None
        self._seeing = engine if shared and isinstance(engine, SeeingEngine) else None

    @property
    def shares_tower(self) -> bool:
        """The engine's own vision tower is the bundles': it runs once for verdict and answer."""
        return self._seeing is not None

    def generate(
        self,
        prompt: str | None = None,
        images: Sequence[ImageSource] = (),
        *,
        messages: Sequence[Given] | None = None,
        source: str | None = None,
        **options: Any,
    ) -> Reply:
        """Answers a question about images, or a conversation.

        Args:
            prompt: The question.
            images: As `Runtime.check` takes them; they come before the question.
            messages: Instead of both: `Message` values, or mappings as OpenAI's chat completions have them.
            source: Where the images come from, by the policy's name for it.
            **options: Of the engine, as `max_tokens` and `temperature`.

        Returns:
            The engine's answer or the policy's refusal, with a verdict per image.

        Raises:
            ConversationError: Something of the conversation is not known, and nothing of it was passed on.
            ChatEngineError: The engine gave no answer.
            ObserverFailed: An observer failed; the engine was not asked.
        """
        found = self._screen(prompt, images, messages, source, options)
        if found.refused:
            return self._refusal(found)
        return _with_verdicts(checked_reply(self._engine.generate(_request(found, options))), found)

    def stream(
        self,
        prompt: str | None = None,
        images: Sequence[ImageSource] = (),
        *,
        messages: Sequence[Given] | None = None,
        source: str | None = None,
        **options: Any,
    ) -> Stream:
        """As `generate`, piece by piece; when it returns, every verdict is there and no piece was asked for."""
        found = self._screen(prompt, images, messages, source, options)
        if found.refused:
            return Stream(iter([self._refusal(found).text]), verdicts=found.verdicts, refused=True)
        pieces = checked_pieces(self._engine.stream(_request(found, options)), "stream")
        return Stream(pieces, verdicts=found.verdicts, refused=False)

    async def agenerate(
        self,
        prompt: str | None = None,
        images: Sequence[ImageSource] = (),
        *,
        messages: Sequence[Given] | None = None,
        source: str | None = None,
        **options: Any,
    ) -> Reply:
        """As `generate`, while the event loop goes on."""
        found = await asyncio.to_thread(self._screen, prompt, images, messages, source, options)
        if found.refused:
            return self._refusal(found)
        return _with_verdicts(await later_reply(self._engine.agenerate(_request(found, options))), found)

    async def astream(
        self,
        prompt: str | None = None,
        images: Sequence[ImageSource] = (),
        *,
        messages: Sequence[Given] | None = None,
        source: str | None = None,
        **options: Any,
    ) -> AsyncStream:
        """As `stream`, while the event loop goes on; await it, then iterate."""
        found = await asyncio.to_thread(self._screen, prompt, images, messages, source, options)
        if found.refused:
            return AsyncStream(_once(self._refusal(found).text), verdicts=found.verdicts, refused=True)
        pieces = checked_pieces(self._engine.astream(_request(found, options)), "astream")
        return AsyncStream(pieces, verdicts=found.verdicts, refused=False)

    def _screen(
        self,
        prompt: str | None,
        images: Sequence[ImageSource],
        given: Sequence[Given] | None,
        source: str | None,
        options: dict[str, Any],
    ) -> Screened:
        messages = read_conversation(prompt, images, given, max_images=self._max_images)
        found = self._judged(messages, source, options)
        self._tell(found, source)
        return found

    def _judged(self, messages: tuple[Message, ...], source: str | None, options: dict[str, Any]) -> Screened:
        if self._seeing is not None:
            return look_and_judge(self._runtime, self._seeing, messages, source=source, options=options)
        images = [image.source for image in images_of(messages)]
        return judge_pixels(self._runtime, messages, images, source=source)

    def _tell(self, found: Screened, source: str | None) -> None:
        event = Event(
            entry="guard",
            moment=time.time(),
            source=source,
            request_id=uuid.uuid4().hex,
            prompt_mixed=found.mixed,
            blocked=found.refused,
        )
        for verdict in found.verdicts:
            notify(self._observers, verdict, event)
        for verdict in found.verdicts:
            if verdict.error is not None:
                _call(self._on_error, verdict)
            elif verdict.action is Action.BLOCK:
                _call(self._on_block, verdict)

    def _refusal(self, found: Screened) -> Reply:
        """What the policy says in the place of the model; it says so of a verdict that blocks."""
        text = refusal_of(found.verdicts) or self._runtime.policies[0].refusal
        return Reply(text=text, finish_reason="content_filter", refused=True, verdicts=found.verdicts)


def _request(found: Screened, options: dict[str, Any]) -> Request:
    return Request(messages=found.messages, options=options, seen=found.seen)


def _with_verdicts(reply: Reply, found: Screened) -> Reply:
    return Reply(
        text=reply.text,
        finish_reason=reply.finish_reason,
        usage=reply.usage,
        tool_calls=reply.tool_calls,
        verdicts=found.verdicts,
    )


def _call(callback: OnVerdict | None, verdict: Verdict) -> None:
    """An application's own mistake must neither open the gate nor take the answer away."""
    if callback is None:
        return
    try:
        callback(verdict)
    except Exception as problem:
        _log.warning("a callback of the guard failed with %s; the verdict stands", type(problem).__name__)


async def _once(text: str) -> AsyncIterator[str]:
    yield text
