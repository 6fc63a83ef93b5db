"""/v1/check and /v1/moderations: verdicts, without any upstream."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive, Scope

from safevlm_runtime.judging.screening import Screening
from safevlm_runtime.proxy.data_url import MEDIA_TYPES, check_type, inline_image
from safevlm_runtime.proxy.exchange import Answering, JsonResponse, while_connected
from safevlm_runtime.proxy.gateway import Gateway
from safevlm_runtime.proxy.gating import tell
from safevlm_runtime.proxy.image_bodies import read_check, read_moderation
from safevlm_runtime.proxy.reading import JSON, check_head, media_type, read_body
from safevlm_runtime.proxy.strict_json import loads
from safevlm_sdk.errors import BadRequest, BodyEncoding, GateFailed, TooManyImages
from safevlm_sdk.policy import Action
from safevlm_sdk.verdict import Verdict

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Check:
    """`POST /v1/check`: one image, as the raw body or as a data URL in JSON; the verdict as JSON."""

    gateway: Gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Answering) -> None:
        """Answers one request."""
        media = _media(scope, receive)
        await _answer(self.gateway, scope, receive, send, lambda data, name: self._verdict(data, media, name))

    def _verdict(self, data: bytearray, media: str, request_id: str) -> dict[str, Any]:
        limits = self.gateway.settings.limits
        heatmap = False
        if media == JSON:
            asked = read_check(loads(data))
            image, heatmap = inline_image(asked.url, max_bytes=limits.image_bytes, param="image"), asked.heatmap
        else:
            image = bytes(data)
            check_type(image, media, param=None)
        found = _judged(self.gateway, image, request_id)
        verdict = found.verdict
        answer = {"id": request_id, **verdict.to_dict(), "raster": _size(found), "policy": self._policy()}
        if heatmap:
            answer["heatmap"] = None if verdict.attention is None else verdict.attention.tolist()
        return answer

    def _policy(self) -> str:
        return ", ".join(self.gateway.coverage.policies.values())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moderations:
    """`POST /v1/moderations` in OpenAI's form, for images: one result per image."""

    gateway: Gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Answering) -> None:
        """Answers one request."""
        if _media(scope, receive) != JSON:
            raise BodyEncoding(f"the body must be {JSON}")
        await _answer(self.gateway, scope, receive, send, self._results)

    def _results(self, data: bytearray, request_id: str) -> dict[str, Any]:
        limits = self.gateway.settings.limits
        given = read_moderation(loads(data))
        if not given:
            raise BadRequest("input has no image; send parts of type image_url", param="input")
        if len(given) > limits.images:
            raise TooManyImages(f"input has {len(given)} images; up to {limits.images} are judged", param="input")
        images = [inline_image(url, max_bytes=limits.image_bytes, param=param) for url, param in given]
        verdicts = [_judged(self.gateway, image, request_id).verdict for image in images]
        return {
            "id": f"modr-{request_id}",
            "model": ", ".join(self.gateway.coverage.bundles.values()),
            "results": [_result(verdict) for verdict in verdicts],
        }


def _result(verdict: Verdict) -> dict[str, Any]:
    """One result.

    Raises:
        GateFailed: The gate failed: it has no scores, and a made-up zero would read as harmless.
    """
    if verdict.error is not None:
        raise GateFailed(f"{verdict.error}: {verdict.reason}")
    meant = verdict.action if verdict.observed is None else verdict.observed
    flagged = verdict.category != "safe" or meant is not Action.ALLOW
    return {
        "flagged": flagged,
        "categories": {name: flagged and name.rpartition("/")[2] == verdict.category for name in verdict.categories},
        "category_scores": dict(verdict.categories),
        "category_applied_input_types": {name: ["image"] for name in verdict.categories},
    }


def _media(scope: Scope, receive: Receive) -> str:
    request = Request(scope, receive)
    check_head(request)
    media = media_type(request)
    if media != JSON and media not in MEDIA_TYPES:
        raise BodyEncoding(f"the body must be {JSON}, {', '.join(MEDIA_TYPES)}")
    return media


async def _answer(
    gateway: Gateway, scope: Scope, receive: Receive, send: Answering, judge: Callable[[bytearray, str], Any]
) -> None:
    request, request_id, limits = Request(scope, receive), uuid.uuid4().hex, gateway.settings.limits
    gateway.admission.check()  # before the body: what would be refused need not be sent
    most = limits.body_bytes if media_type(request) == JSON else limits.image_bytes
    with gateway.buffered.body() as body:
        await read_body(request, body, limits, most)

        async def work() -> None:
            found = await gateway.admission.run(lambda: judge(body.data, request_id))
            await JsonResponse(found, 200, {"x-safevlm-verdict": request_id})(scope, receive, send)

        await while_connected(receive, send, work)


def _judged(gateway: Gateway, image: bytes, request_id: str) -> Screening:
    gate = gateway.gate
    found = gate.screener.screen(image, source=gate.source)
    tell(gate, [found.verdict], request_id, blocked=not found.verdict.allowed)
    return found


def _size(found: Screening) -> dict[str, int] | None:
    """Of what was judged, in pixels; None when nothing could be decoded."""
    if found.raster is None:
        return None
    height, width = found.raster.frames[0].pixels.shape[:2]
    return {"width": width, "height": height}
