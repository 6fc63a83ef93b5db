"""/v1/chat/completions and /v1/responses: gate, rewrite, forward; or refuse in the protocol's own form."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from safevlm_runtime.proxy.chat_body import read_chat
from safevlm_runtime.proxy.data_url import decode_data_url
from safevlm_runtime.proxy.event_stream import whole_events
from safevlm_runtime.proxy.exchange import SAFE_HEADERS, Answering, EventResponse, JsonResponse, while_connected
from safevlm_runtime.proxy.gateway import Gateway
from safevlm_runtime.proxy.gating import Gated, gate_request
from safevlm_runtime.proxy.parsed import ParsedRequest, Slot, check_count
from safevlm_runtime.proxy.reading import JSON, Body, check_head, media_type, read_body
from safevlm_runtime.proxy.refusal import Refusal
from safevlm_runtime.proxy.replies import chat_refusal, chat_refusal_events
from safevlm_runtime.proxy.responses_body import read_responses
from safevlm_runtime.proxy.responses_replies import responses_refusal, responses_refusal_events
from safevlm_runtime.proxy.strict_json import loads
from safevlm_runtime.proxy.upstream import BROKEN
from safevlm_sdk.errors import BodyEncoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """One way of asking a model.

    Attributes:
        path: At the upstream, behind `/v1`.
        read: Checks a parsed body.
        refusal: The answer to a blocked request.
        refusal_events: The same as a stream.
    """

    path: str
    read: Callable[[Any], ParsedRequest]
    refusal: Callable[[ParsedRequest, Refusal], dict[str, Any]]
    refusal_events: Callable[[ParsedRequest, Refusal], Iterator[bytes]]


CHAT: Final = Protocol(
    path="/chat/completions", read=read_chat, refusal=chat_refusal, refusal_events=chat_refusal_events
)
RESPONSES: Final = Protocol(
    path="/responses", read=read_responses, refusal=responses_refusal, refusal_events=responses_refusal_events
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Completions:
    """An endpoint; an ASGI application."""

    gateway: Gateway
    protocol: Protocol

    async def __call__(self, scope: Scope, receive: Receive, send: Answering) -> None:
        """Answers one request."""
        request = Request(scope, receive)
        check_head(request)
        if media_type(request) != JSON:
            raise BodyEncoding(f"the body must be {JSON}")
        self.gateway.admission.check()  # before the body: what would be refused need not be sent
        limits = self.gateway.settings.limits
        with self.gateway.buffered.body() as body:
            await read_body(request, body, limits, limits.body_bytes)

            async def answer() -> None:
                parsed, gated, request_id = await self._gated(body)
                body.become(0 if gated.body is None else len(gated.body))
                await self._reply(request, parsed, gated, request_id, send)

            await while_connected(receive, send, answer)

    async def _gated(self, body: Body) -> tuple[ParsedRequest, Gated, str]:
        """The request, judged. Not a byte has gone to the upstream when this returns."""
        gateway, request_id, data = self.gateway, uuid.uuid4().hex, body.data
        parsed, images, gated = await gateway.admission.run(lambda: self._judged(data, request_id))
        if gated is None:
            fetched = await self._fetched(parsed.slots, images, body)
            gated = await gateway.admission.run(lambda: gate_request(gateway.gate, parsed, fetched, request_id))
        return replace(parsed, body={}, slots=()), gated, request_id

    def _judged(self, data: bytearray, request_id: str) -> tuple[ParsedRequest, list[bytes | None], Gated | None]:
        """The request and its images, and what the gate says; None where an image must be fetched before."""
        parsed, images = self._parsed(data)
        inline = [image for image in images if image is not None]
        if len(inline) < len(images):
            return parsed, images, None
        return parsed, images, gate_request(self.gateway.gate, parsed, inline, request_id)

    def _parsed(self, data: bytearray) -> tuple[ParsedRequest, list[bytes | None]]:
        """The request and the images in it; None for one that must be fetched."""
        limits = self.gateway.settings.limits
        parsed = self.protocol.read(loads(data))
        check_count(parsed.slots, limits.images)
        images: list[bytes | None] = []
        for slot in parsed.slots:
            if slot.url[:5].lower() == "data:":
                images.append(decode_data_url(slot.url, max_bytes=limits.image_bytes, param=slot.param))
            else:
                self.gateway.remote.split(slot.url, slot.param)
                images.append(None)
        return parsed, images

    async def _fetched(self, slots: Sequence[Slot], images: Sequence[bytes | None], body: Body) -> list[bytes]:
        """All images; their bytes count as the body's. Where one cannot be fetched, none is fetched any longer."""

        async def one(slot: Slot, image: bytes | None) -> bytes:
            return await self.gateway.remote.fetch(slot.url, slot.param, body.hold) if image is None else image

        tasks = [asyncio.ensure_future(one(*pair)) for pair in zip(slots, images, strict=True)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _reply(
        self, request: Request, parsed: ParsedRequest, gated: Gated, request_id: str, send: Send
    ) -> None:
        headers = {
            "x-safevlm-action": gated.action.value,
            "x-safevlm-verdict": request_id,
            "x-safevlm-images": str(len(gated.verdicts)),
        }
        if gated.error is not None:
            headers["x-safevlm-error"] = gated.error
        if gated.body is None:
            await self._refuse(parsed, gated, request_id, headers)(request.scope, request.receive, send)
            return
        upstream = self.gateway.upstream
        async with upstream.post(self.protocol.path, gated.body, request.headers) as answer:
            headers = {**answer.headers, **headers}
            response: ASGIApp
            if answer.streamed:
                most = self.gateway.settings.limits.answer_bytes
                events = whole_events(answer.blocks, most, BROKEN, framed=answer.framed)
                response = EventResponse(answer.status, headers, events)
            else:
                response = Response(await upstream.whole(answer), answer.status, SAFE_HEADERS | headers)
            await response(request.scope, request.receive, send)

    def _refuse(self, parsed: ParsedRequest, gated: Gated, request_id: str, headers: dict[str, str]) -> ASGIApp:
        refusal = Refusal(text=gated.refusal, request_id=request_id, error=gated.error)
        if not parsed.stream:
            return JsonResponse(self.protocol.refusal(parsed, refusal), 200, headers)
        events = self.protocol.refusal_events(parsed, refusal)
        return EventResponse(200, headers, _as_they_come(events))


async def _as_they_come(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block
