"""The gate at run time: an image in, a verdict out, without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safevlm_runtime.runtime import Runtime

__all__ = ["Runtime"]


def __getattr__(name: str) -> Any:
    """Loads `Runtime` at its first use, so that importing this package costs nothing."""
    if name == "Runtime":
        from safevlm_runtime.runtime import Runtime

        return Runtime
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
