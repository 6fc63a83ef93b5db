"""The bodies of /v1/check and /v1/moderations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from safevlm_runtime.proxy.common_fields import DETAIL, FLAG, LABEL
from safevlm_runtime.proxy.shapes import either, many, record, tagged, text
from safevlm_sdk.errors import UnsupportedPart

_IMAGE: Final = record(
    {"type": text, "image_url": record({"url": text, "detail": DETAIL}, ("url",))}, ("type", "image_url")
)


def _no_text(value: Any, path: str) -> None:
    raise UnsupportedPart(f"{path} is a text; this gate judges images only: send parts of type image_url", param=path)


_MODERATION: Final = record(
    {
        "model": LABEL,
        "input": either(
            str,
            _no_text,
            many(either(str, _no_text, tagged("type", {"image_url": _IMAGE}))),
        ),
    },
    ("input",),
)
_CHECK: Final = record({"image": text, "heatmap": FLAG}, ("image",))


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckBody:
    """What /v1/check was asked: an image's URL, and whether the heatmap is wanted."""

    url: str
    heatmap: bool


def read_check(body: Any) -> CheckBody:
    """Checks a parsed body.

    Raises:
        RequestError: Something is unknown or not of its shape.
    """
    _CHECK(body, "")
    return CheckBody(url=body["image"], heatmap=body.get("heatmap") is True)


def read_moderation(body: Any) -> tuple[tuple[str, str], ...]:
    """Checks a parsed body; gives (URL, JSON path) of each image.

    Raises:
        RequestError: Something is unknown or not of its shape, or a text is to be judged.
    """
    _MODERATION(body, "")
    return tuple(
        (part["image_url"]["url"], f"input[{index}].image_url.url") for index, part in enumerate(body["input"])
    )
