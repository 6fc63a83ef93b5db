"""A refusal in the form in which chat completions are answered, whole or as a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from safevlm_runtime.proxy.event_stream import DONE, event
from safevlm_runtime.proxy.parsed import ParsedRequest
from safevlm_runtime.proxy.refusal import Refusal

_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def chat_refusal(request: ParsedRequest, refusal: Refusal) -> dict[str, Any]:
    """A chat completion that says the refusal and ends with `content_filter`."""
    message = {"role": "assistant", "content": refusal.text, "refusal": None}
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": "content_filter"}
        for index in range(request.choices)
    ]
    return {**_head("chat.completion", request, refusal), "choices": choices, "usage": _USAGE}


def chat_refusal_events(request: ParsedRequest, refusal: Refusal) -> Iterator[bytes]:
    """The same as a stream of chunks."""
    head = _head("chat.completion.chunk", request, refusal)
    for index in range(request.choices):
        said = {"role": "assistant", "content": refusal.text}
        for delta, reason in ((said, None), ({}, "content_filter")):
            yield event(
                {**head, "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}]}
            )
    if request.wants_usage:
        yield event({**head, "choices": [], "usage": _USAGE})
    yield DONE


def _head(kind: str, request: ParsedRequest, refusal: Refusal) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{refusal.request_id}",
        "object": kind,
        "created": int(time.time()),
        "model": request.model,
        "safevlm": refusal.told,
    }
