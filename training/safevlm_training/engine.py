"""A SafeVLM in this process as an engine: one run of the vision tower serves the gate and the language model."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import StoppingCriteriaList, TextIteratorStreamer

from safevlm_sdk.chat import Reply, Request, Seen, Usage, images_of
from safevlm_sdk.errors import ChatEngineError, ConversationError, OptionError, SafeVLMError
from safevlm_training.engine_prompt import conversation_of, generation_options, pictures_of, refuse_control_tokens
from safevlm_training.vlm.passes import base_inputs, showing
from safevlm_training.vlm.risks import with_notes
from safevlm_training.vlm.safe_vlm import SafeVLM
from safevlm_training.vlm.traded_features import to_features


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Running:
    """A generation in a thread of its own."""

    pieces: TextIteratorStreamer
    done: Future[Reply]
    stop: threading.Event


class TransformersEngine:
    """Answers with a SafeVLM: its safety tokens, its LoRA adapters, and if asked for its conditional prompt.

    A guard whose bundle was exported from this model's checkpoint judges the features of `look`, so that the tower
    runs once for the verdict and the answer. One generation at a time; requests of several threads take turns. The
    model belongs to the engine alone.

    Args:
        model: A SafeVLM in eval mode, or the folder of a checkpoint, or an id on the Hugging Face hub.
        prompt: "tiered" lets the model's own gate put the conditional prompt behind the question; beside a guard
            that judges with the same gate that says the same twice.
        options: For every request, such as `{"max_tokens": 64}`; what a request says itself wins.

    Attributes:
        tower_digest: Digest of the tower's weights.
        tap: Where the gate listens.

    Raises:
        CheckpointError: The checkpoint cannot be loaded.
        OptionError: An argument is not known.
    """

    def __init__(
        self,
        model: SafeVLM | str | os.PathLike[str],
        *,
        prompt: Literal["none", "tiered"] = "none",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if prompt not in ("none", "tiered"):
            raise OptionError(f"prompt is {prompt!r}; it is none or tiered")
        generation_options(options or {})
        self._model = model if isinstance(model, SafeVLM) else SafeVLM.from_pretrained(os.fspath(model))
        self._prompt = prompt
        self._options = dict(options or {})
        self._turn = threading.Lock()
        config = self._model.config
        self._shows_tokens = config.llm_width is not None and config.llm_tokens_trained
        self.tower_digest, self.tap = config.tower.digest, config.tower.tap

    def look(self, request: Request) -> Seen:
        """Runs the tower once over the images of a request, and not the language model.

        Raises:
            ConversationError: A text holds a control token.
            DataError: The chat template refuses the conversation.
            ChatEngineError: The tower failed.
        """
        with self._working():
            return self._look(request, self._batch(request))

    def generate(self, request: Request) -> Reply:
        """The whole answer; the tower runs only if nobody looked before.

        Raises:
            ConversationError, DataError, OptionError: The request cannot be served as it is.
            OutputNotFinite: The model's gate gives NaN or infinity.
            ChatEngineError: The model failed.
        """
        with self._working():
            return self._answer(request)

    def stream(self, request: Request) -> Iterator[str]:
        """The answer's text in pieces; raises as `generate` does."""
        running = self._start(request)
        try:
            yield from filter(None, running.pieces)
        finally:
            running.stop.set()
        running.done.result()

    async def agenerate(self, request: Request) -> Reply:
        """`generate` in a thread."""
        return await asyncio.to_thread(self.generate, request)

    async def astream(self, request: Request) -> AsyncIterator[str]:
        """`stream`, while the event loop goes on."""
        running = self._start(request)
        try:
            while (piece := await asyncio.to_thread(running.pieces.text_queue.get)) is not running.pieces.stop_signal:
                if piece:
                    yield piece
        finally:
            running.stop.set()
        await asyncio.wrap_future(running.done)

    def close(self) -> None:
        """Nothing to do: memory is freed with the model."""

    async def aclose(self) -> None:
        """As `close`."""

    def _start(self, request: Request) -> _Running:
        pieces = TextIteratorStreamer(self._model.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        stop = threading.Event()

        def work() -> Reply:
            try:
                with self._working():
                    return self._answer(request, streamer=pieces, stopping_criteria=_stopping(stop))
            finally:
                pieces.text_queue.put(pieces.stop_signal)  # also where the model never came to its end

        pool = ThreadPoolExecutor(1, thread_name_prefix="safevlm-generate")
        done = pool.submit(work)
        pool.shutdown(wait=False)
        return _Running(pieces=pieces, done=done, stop=stop)

    @contextmanager
    def _working(self) -> Iterator[None]:
        """One request has the model, and every failure of it has a name."""
        with self._turn, torch.no_grad():
            try:
                yield
            except SafeVLMError:
                raise
            except Exception as problem:
                name = type(problem).__name__
                raise ChatEngineError(f"the model failed ({name}); look at its memory and its inputs") from problem

    def _batch(self, request: Request, decided: Any = None) -> Any:
        model = self._model
        refuse_control_tokens(request.messages, model.processor)
        conversation: list[Mapping[str, Any]] = conversation_of(request.messages)
        if decided is not None:
            conversation = with_notes([conversation], [decided], model.config.taxonomy)[0]
        batch = model.processor.conversations(
            [conversation],
            [pictures_of(request.messages)],
            add_generation_prompt=True,
            safety_tokens=self._shows_tokens,
        )
        return batch.to(model.vlm.get_input_embeddings().weight.device)

    def _look(self, request: Request, batch: Any) -> Seen:
        encoded = self._model.adapter.encode(batch)
        features = to_features(encoded, pictures_of(request.messages), self._model.config.tower)
        return Seen(features=tuple(features), state=encoded)

    def _answer(self, request: Request, **running: Any) -> Reply:
        model = self._model
        options = generation_options({**self._options, **request.options})
        batch = self._batch(request)
        seen = self._look(request, batch) if request.seen is None else _of_these_images(request.seen, request)
        safety = model.judge_features(seen.features) if seen.features else None
        if self._prompt == "tiered" and safety is not None:
            batch = self._batch(request, model.decide(safety))
        rows = safety.safety_embeddings if self._shows_tokens and safety is not None else None
        inputs = base_inputs(batch, seen.state.outputs if seen.features else None, model.adapter.image_inputs)
        with showing(model.vlm, model.processor.safety_token_id, batch["input_ids"], rows):
            ids = model.vlm.generate(**inputs, **options, **running)
        return self._reply(ids[0, batch["input_ids"].shape[1] :], batch, options)

    def _reply(self, new: Any, batch: Any, options: Mapping[str, Any]) -> Reply:
        (text,) = self._model.processor.decode(new[None])
        cut = len(new) >= options["max_new_tokens"] and int(new[-1]) not in _end_ids(self._model.vlm)
        usage = Usage(prompt_tokens=int(batch["input_ids"].shape[1]), completion_tokens=len(new))
        return Reply(text=text, finish_reason="length" if cut else "stop", usage=usage)


def _of_these_images(seen: Seen, request: Request) -> Seen:
    """What was seen, if it was of the images that the request holds."""
    wanted = [image.sha256 for image in images_of(request.messages)]
    if [one.raster_sha256 for one in seen.features] != wanted:
        raise ConversationError("what the tower saw is not of this request's images; look at them again")
    return seen


def _stopping(stop: threading.Event) -> StoppingCriteriaList:
    def stopped(ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.full((len(ids),), stop.is_set(), dtype=torch.bool, device=ids.device)

    return StoppingCriteriaList([stopped])


def _end_ids(vlm: Any) -> tuple[int, ...]:
    found = vlm.generation_config.eos_token_id
    return () if found is None else tuple(found) if isinstance(found, (list, tuple)) else (int(found),)
