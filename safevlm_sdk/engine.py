"""What a gate needs of an engine: a language model that answers conversations with images.

A package offers its engine under a name by an entry point of the group `safevlm_sdk.engines`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Protocol, runtime_checkable

from safevlm_sdk.chat import Reply, Request, Seen

GROUP = "safevlm_sdk.engines"


@runtime_checkable
class Engine(Protocol):
    """Answers requests from any thread; it raises `ChatEngineError` when it cannot.

    It shows its model `Image.pixels` and nothing else of an image, and refuses options that it does not know. A guard
    calls `generate`, `stream`, `agenerate` and `astream`; closing is for whoever made the engine.
    """

    def generate(self, request: Request) -> Reply:
        """The whole answer, as `Reply(text=…, finish_reason="stop")`."""

    def stream(self, request: Request) -> Iterator[str]:
        """The answer's text, piece by piece; closing the iterator ends the generation."""

    async def agenerate(self, request: Request) -> Reply:
        """`generate`, while the event loop goes on."""

    def astream(self, request: Request) -> AsyncIterator[str]:
        """`stream`, while the event loop goes on."""

    def close(self) -> None:
        """Frees what the engine holds."""

    async def aclose(self) -> None:
        """`close`, for what belongs to the running event loop."""


@runtime_checkable
class SeeingEngine(Engine, Protocol):
    """An engine in this process, whose own vision tower a gate can share.

    Attributes:
        tower_digest: Digest of the tower's weights.
        tap: Where `look` takes its features, such as "hidden:-2".
    """

    tower_digest: str
    tap: str

    def look(self, request: Request) -> Seen:
        """Runs the tower once over the images of a request, and not the language model."""
