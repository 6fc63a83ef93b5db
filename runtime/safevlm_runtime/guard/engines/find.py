"""Engines by name, from the entry points of installed packages."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from safevlm_sdk.engine import GROUP, Engine
from safevlm_sdk.errors import ChatEngineUnknown


def engine_names() -> tuple[str, ...]:
    """The names that installed packages offer, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def load_engine(name: str, /, *arguments: Any, **options: Any) -> Engine:
    """Makes an engine.

    Args:
        name: As "openai" or "transformers"; a package adds one by an entry point of `safevlm_sdk.engines`.
        *arguments: Of the engine.
        **options: Of the engine.

    Raises:
        ChatEngineUnknown: No package offers it, several do, or what it offers cannot be loaded or is no engine.
    """
    found = list({point.value: point for point in entry_points(group=GROUP, name=name)}.values())
    if len(found) != 1:
        offers = f"{len(found)} packages offer" if found else "no installed package offers"
        raise ChatEngineUnknown(
            f"{offers} an engine called {name!r}; installed are {', '.join(engine_names()) or 'none'}"
        )
    engine = _loaded(found[0])(*arguments, **options)
    if not isinstance(engine, Engine):
        raise ChatEngineUnknown(f"what is offered as {name!r} makes a {type(engine).__name__}, which is no engine")
    return engine


def _loaded(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as problem:
        raise ChatEngineUnknown(
            f"the engine {point.name!r} cannot be loaded ({type(problem).__name__}: {problem}); "
            "install what it needs, as pip install 'safevlm-sdk[train]' for transformers"
        ) from problem
