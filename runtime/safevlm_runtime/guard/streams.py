"""Answers in pieces, with the verdicts that were there before the first of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from safevlm_sdk.verdict import Verdict


class Stream:
    """The pieces of an answer; leaving its `with` block, or `close`, ends the generation.

    Attributes:
        verdicts: One per image, in reading order.
        refused: The pieces are the policy's refusal, and no engine was asked.
    """

    def __init__(self, pieces: Iterator[str], *, verdicts: tuple[Verdict, ...], refused: bool) -> None:
        self._pieces = pieces
        self.verdicts = verdicts
        self.refused = refused

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def close(self) -> None:
        """Ends the generation."""
        _closing(self._pieces, "close")

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()


class AsyncStream:
    """As `Stream`, in an event loop."""

    def __init__(self, pieces: AsyncIterator[str], *, verdicts: tuple[Verdict, ...], refused: bool) -> None:
        self._pieces = pieces
        self.verdicts = verdicts
        self.refused = refused

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        """Ends the generation."""
        closing = _closing(self._pieces, "aclose")
        if closing is not None:
            await closing

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *problem: object) -> None:
        await self.aclose()


def _closing(pieces: object, name: str) -> Any:
    """Calls the iterator's own way to close, which a generator has and a plain iterator may not."""
    close = getattr(pieces, name, None)
    return None if close is None else close()
