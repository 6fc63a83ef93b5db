"""A request after its body was read: where its images are, and how to put others in their place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from safevlm_sdk.errors import TooManyImages
from safevlm_sdk.safety_prompt import with_safety_prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The place of one image in a request.

    Attributes:
        holder: The object that has the image's URL, at `key`.
        key: Of `holder`.
        parts: The content parts of the turn; the question is in the last text among them.
        text_type: What this protocol calls a text part.
        param: JSON path of the URL.
    """

    holder: dict[str, Any]
    key: str
    parts: list[dict[str, Any]]
    text_type: str
    param: str

    @property
    def url(self) -> str:
        """The URL that stands there."""
        return str(self.holder[self.key])

    def put(self, url: str) -> None:
        """Replaces the image."""
        self.holder[self.key] = url

    def add_note(self, note: str) -> None:
        """Puts a text behind the question of the turn."""
        texts = [part for part in self.parts if part["type"] == self.text_type]
        if texts:
            texts[-1]["text"] = with_safety_prompt(texts[-1]["text"], note)
        else:
            self.parts.append({"type": self.text_type, "text": note})


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRequest:
    """A body that passed its allow-list; nothing else refers to it, so that its images can be replaced in place.

    Attributes:
        body: What is serialised anew and forwarded.
        slots: Of all images, in order.
        model: As the client named it.
        stream: The client wants events.
        choices: How many answers it wants.
        wants_usage: It wants a last event with the usage.
    """

    body: dict[str, Any]
    slots: tuple[Slot, ...]
    model: str
    stream: bool
    choices: int = 1
    wants_usage: bool = False


def check_count(slots: tuple[Slot, ...], most: int) -> None:
    """Refuses a request with too many images.

    Raises:
        TooManyImages: There are more than `most`.
    """
    if len(slots) > most:
        raise TooManyImages(
            f"the request has {len(slots)} images; up to {most} are judged for one: send fewer",
            param=slots[most].param,
        )


def images_in(parts: Any, path: str, *, text_type: str, image_type: str) -> Iterator[Slot]:
    """The slots of the image parts in a turn's content; a content that is a string has none."""
    if not isinstance(parts, list):
        return
    for index, part in enumerate(parts):
        if part["type"] == image_type:
            holder, key = (part["image_url"], "url") if image_type == "image_url" else (part, "image_url")
            param = f"{path}[{index}].image_url" + (".url" if key == "url" else "")
            yield Slot(holder=holder, key=key, parts=parts, text_type=text_type, param=param)
