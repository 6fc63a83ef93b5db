"""Conversations with images, as an application gives them and as an engine gets them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.errors import ImageNotJudged
from safevlm_sdk.features import VisionFeatures
from safevlm_sdk.raster import Frame, ImageSource
from safevlm_sdk.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A piece of text in a message."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """An image in a message.

    Attributes:
        source: What the application has: a path, encoded bytes, a binary file, a PIL image or uint8 pixels.
        judged: The canonical frame that a gate has judged; None in what an application gives.
    """

    source: ImageSource | None = field(default=None, repr=False)
    judged: Frame | None = field(default=None, repr=False)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The judged pixels, uint8 RGB [H, W, 3]: all that an engine may show its model.

        Raises:
            ImageNotJudged: No gate has judged this image.
        """
        return self._frame.pixels

    @property
    def sha256(self) -> str:
        """`raster_digest` of the judged pixels.

        Raises:
            ImageNotJudged: No gate has judged this image.
        """
        return self._frame.sha256

    @property
    def _frame(self) -> Frame:
        if self.judged is None:
            raise ImageNotJudged(
                "an engine was given an image that no gate has judged; ask through `runtime.guard(engine)`"
            )
        return self.judged


Part: TypeAlias = Text | Image


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a function that the model asks for; `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Message:
    """One turn of a conversation.

    Attributes:
        role: Who speaks.
        parts: Texts and images in their order.
        tool_calls: What an assistant asked for.
        tool_call_id: The call that a tool's message answers.
    """

    role: Role
    parts: tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    @property
    def images(self) -> tuple[Image, ...]:
        """The images among the parts."""
        return tuple(part for part in self.parts if isinstance(part, Image))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What an engine's own vision tower made of the images of a request.

    Attributes:
        features: One per image, in reading order.
        state: For the engine that made it.
    """

    features: tuple[VisionFeatures, ...]
    state: Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """What an engine is asked; every image in it was judged.

    Attributes:
        messages: The conversation.
        options: Of the generation, by OpenAI's names, such as `max_tokens` and `temperature`.
        seen: From the engine's `look` at the same images, where a gate asked it to look first.
    """

    messages: tuple[Message, ...]
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    seen: Seen | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens that a request cost."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reply:
    """What comes back.

    Attributes:
        text: The model's answer, or the policy's refusal.
        finish_reason: As the engine gave it, such as "stop" and "length"; "content_filter" for a refusal of the gate.
        usage: None where the engine does not say, and for a refusal.
        tool_calls: Functions that the model wants called.
        refused: The gate let nothing through: no engine was asked.
        verdicts: One per image, in reading order; empty as it comes from an engine.
    """

    text: str
    finish_reason: str | None
    usage: Usage | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    refused: bool = False
    verdicts: tuple[Verdict, ...] = ()


def images_of(messages: Iterable[Message]) -> tuple[Image, ...]:
    """All images of a conversation, in reading order."""
    return tuple(image for message in messages for image in message.images)
