"""A refusal in the form in which /v1/responses answers, whole or as a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from safevlm_runtime.proxy.event_stream import event
from safevlm_runtime.proxy.parsed import ParsedRequest
from safevlm_runtime.proxy.refusal import Refusal

_USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 0,
}


def responses_refusal(request: ParsedRequest, refusal: Refusal) -> dict[str, Any]:
    """A response that says the refusal and is incomplete because of `content_filter`."""
    return _response(request, refusal, "incomplete", [_message(refusal, "incomplete")])


def responses_refusal_events(request: ParsedRequest, refusal: Refusal) -> Iterator[bytes]:
    """The same as a stream of events."""
    message = _message(refusal, "incomplete")
    empty = message | {"status": "in_progress", "content": []}
    at = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    begun = _response(request, refusal, "in_progress", [])
    steps: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        (
            "response.output_item.added",
            {"output_index": 0, "item": empty},
        ),
        ("response.content_part.added", at | {"part": _part("")}),
        ("response.output_text.delta", at | {"delta": refusal.text, "logprobs": []}),
        ("response.output_text.done", at | {"text": refusal.text, "logprobs": []}),
        ("response.content_part.done", at | {"part": _part(refusal.text)}),
        ("response.output_item.done", {"output_index": 0, "item": message}),
        ("response.incomplete", {"response": responses_refusal(request, refusal)}),
    ]
    for number, (name, fields) in enumerate(steps):
        yield event({"type": name, "sequence_number": number, **fields}, name)


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(refusal: Refusal, status: str) -> dict[str, Any]:
    return {
        "type": "message",
        "id": f"msg_{refusal.request_id}",
        "status": status,
        "role": "assistant",
        "content": [_part(refusal.text)],
    }


def _response(request: ParsedRequest, refusal: Refusal, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    done = status == "incomplete"
    return {
        "id": f"resp_{refusal.request_id}",
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "content_filter"} if done else None,
        "instructions": None,
        "metadata": {},
        "model": request.model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": _USAGE if done else None,
        "safevlm": refusal.told,
    }
