"""What an engine must have before it is asked, and what it must give back."""

from __future__ import annotations

import inspect
from typing import Any, Final, TypeVar

from safevlm_sdk.chat import Reply
from safevlm_sdk.errors import ChatEngineError, OptionError

ASKED: Final = ("generate", "stream", "agenerate", "astream")
"""The methods of `Engine` that a guard calls."""

Pieces = TypeVar("Pieces")


def check_engine(engine: object) -> None:
    """Looks whether an engine can be asked.

    Raises:
        OptionError: A method is missing.
    """
    missing = [name for name in ASKED if not callable(getattr(engine, name, None))]
    if isinstance(engine, type):
        raise OptionError(f"the engine is the class {engine.__name__}; give an object of it")
    if missing:
        raise OptionError(
            f"the engine is a {type(engine).__name__} without {', '.join(missing)}; it needs the methods of "
            'safevlm_sdk.engine.Engine: see "Your own engine" in docs/gate.md'
        )


def checked_reply(given: Any) -> Reply:
    """What an engine answered.

    Raises:
        ChatEngineError: It is no `Reply` with a text.
    """
    if not isinstance(given, Reply):
        raise ChatEngineError(
            f"the engine returned a {type(given).__name__}; it must return safevlm_sdk.chat.Reply(text=…, "
            'finish_reason="stop")'
        )
    if not isinstance(given.text, str):
        raise ChatEngineError(f"the text of the engine's Reply is a {type(given.text).__name__}; it must be a str")
    return given


async def later_reply(given: Any) -> Reply:
    """`checked_reply` of what `agenerate` gave.

    Raises:
        ChatEngineError: It cannot be awaited, or gives no `Reply`.
    """
    if not inspect.isawaitable(given):
        raise ChatEngineError(
            f"the engine's agenerate returned a {type(given).__name__}, which cannot be awaited; write it with "
            "`async def`"
        )
    return checked_reply(await given)


def checked_pieces(given: Pieces, method: str) -> Pieces:
    """The pieces of an answer.

    Args:
        given: What the engine's method returned.
        method: "stream" or "astream".

    Raises:
        ChatEngineError: They cannot be taken one by one.
    """
    if hasattr(given, "__anext__" if method == "astream" else "__next__"):
        return given
    if inspect.iscoroutine(given):
        given.close()  # else it is reported as never awaited
    define = "async def" if method == "astream" else "def"
    raise ChatEngineError(
        f"the engine's {method} returned a {type(given).__name__}; write it with `{define}` and `yield` the pieces"
    )
