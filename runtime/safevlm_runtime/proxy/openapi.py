"""The description of the interface, as OpenAPI 3.1."""

from __future__ import annotations

from typing import Any, Final

from safevlm_runtime.proxy.data_url import MEDIA_TYPES
from safevlm_sdk.judged_view import MAX_TOLD_VIEWS
from safevlm_sdk.version import __version__

_OBJECT: Final[dict[str, Any]] = {"type": "object"}
_GATED: Final = (
    "Every image is judged before the upstream is asked, and only the judged pixels are forwarded. A blocked request "
    "is answered with the policy's refusal and the reason `content_filter`; the headers `x-safevlm-action`, "
    "`x-safevlm-verdict`, `x-safevlm-images` and `x-safevlm-error` say what happened; so does its field `safevlm`."
)


def document() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "SafeVLM gate", "version": __version__, "description": _GATED},
        "paths": {
            "/v1/chat/completions": _post("Chat completions, gated", _json(_request("messages", "array")), _OBJECT),
            "/v1/responses": _post("Responses, gated", _json(_request("input", "array", "string")), _OBJECT),
            "/v1/moderations": _post("OpenAI's moderation form, for images", _json(_MODERATION), _MODERATED),
            "/v1/check": _post("The verdict on one image", _json(_CHECK) | _images(), _VERDICT),
            "/v1/models": _get("The upstream's models"),
            "/healthz": _get("The process answers"),
            "/readyz": _get("Requests can be served; what the gate looks for", 503),
            "/metrics": _get("Metrics for Prometheus", media="text/plain"),
            "/openapi.json": _get("This document"),
        },
        "components": {"schemas": {"Error": _ERROR}},
    }


_IMAGE_PART: Final = {
    "type": "object",
    "required": ["type", "image_url"],
    "properties": {
        "type": {"const": "image_url"},
        "image_url": {"type": "object", "required": ["url"], "properties": {"url": {"type": "string"}}},
    },
    "additionalProperties": False,
}
_MODERATION: Final = {
    "type": "object",
    "required": ["input"],
    "properties": {"model": {"type": "string"}, "input": {"type": "array", "minItems": 1, "items": _IMAGE_PART}},
    "additionalProperties": False,
}
_MODERATED: Final = {
    "type": "object",
    "required": ["id", "model", "results"],
    "properties": {
        "id": {"type": "string"},
        "model": {"type": "string"},
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["flagged", "categories", "category_scores"],
                "properties": {
                    "flagged": {"type": "boolean"},
                    "categories": {"type": "object", "additionalProperties": {"type": "boolean"}},
                    "category_scores": {"type": "object", "additionalProperties": {"type": "number"}},
                },
            },
        },
    },
}
_CHECK: Final = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {"type": "string", "description": "data:image/…;base64,…"},
        "heatmap": {"type": "boolean", "default": False},
    },
    "additionalProperties": False,
}
_VIEW: Final = {
    "type": "object",
    "description": "what one frame, background or tile calls for by itself",
    "required": ["bundle", "frame", "background", "box", "action", "category", "level", "score", "error", "decides"],
    "properties": {
        "bundle": {"type": "string"},
        "frame": {"type": "integer", "minimum": 1},
        "background": {"enum": [None, "white", "black", "grey", "alpha-dropped"]},
        "box": {
            "type": ["array", "null"],
            "items": {"type": "integer"},
            "description": "left, top, right, bottom of the tile in pixels of the raster; null for the whole picture",
        },
        "action": {"enum": ["allow", "caution", "block"]},
        "category": {"type": ["string", "null"]},
        "level": {"type": ["integer", "null"], "minimum": 0, "maximum": 3},
        "score": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "error": {"type": ["string", "null"]},
        "decides": {"type": "boolean"},
    },
}
_VERDICT: Final = {
    "type": "object",
    "required": ["id", "schema", "action", "category", "level", "score", "covered", "error", "reason"],
    "properties": {
        "id": {"type": "string"},
        "schema": {"const": 1},
        "action": {"enum": ["allow", "caution", "block"]},
        "category": {"type": ["string", "null"]},
        "level": {"type": ["integer", "null"], "minimum": 0, "maximum": 3},
        "score": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "covered": {"type": "array", "items": {"type": "string"}},
        "error": {"type": ["string", "null"]},
        "reason": {"type": "string"},
        "views": {
            "type": "array",
            "maxItems": MAX_TOLD_VIEWS,
            "items": _VIEW,
            "description": "all that was judged, in its order; the worst where there was more",
        },
        "views_judged": {"type": "integer", "minimum": 0, "description": "how many there were"},
        "raster": {"type": ["object", "null"], "description": "width and height of what was judged"},
        "policy": {"type": "string", "description": "the policies' names"},
    },
}
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "JSON path of what is wrong"},
                "code": {"type": "string"},
            },
        }
    },
}


def _request(field: str, *kinds: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["model", field],
        "properties": {
            "model": {"type": "string"},
            field: {"type": list(kinds)},
            "stream": {"type": ["boolean", "null"]},
        },
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _images() -> dict[str, Any]:
    return {media: {} for media in MEDIA_TYPES}


def _post(says: str, content: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    body = {"required": True, "content": content}
    return {"post": {"summary": says, "requestBody": body, "responses": _responses(_json(answer))}}


def _get(says: str, *others: int, media: str = "application/json") -> dict[str, Any]:
    return {"get": {"summary": says, "responses": _responses({media: {}}, *others)}}


def _responses(content: dict[str, Any], *others: int) -> dict[str, Any]:
    error = {"description": "An error by name", "content": _json({"$ref": "#/components/schemas/Error"})}
    return {
        "200": {"description": "As said", "content": content},
        **{str(status): {"description": "Not ready"} for status in others},
        "default": error,
    }
