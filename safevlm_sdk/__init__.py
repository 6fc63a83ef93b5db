"""SafeVLM SDK: judge an image before a vision-language model sees it.

Importing this package loads nothing heavy: each public name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safevlm_runtime.guard.engines.find import load_engine
    from safevlm_runtime.runtime import Runtime
    from safevlm_sdk.errors import SafeVLMError
    from safevlm_sdk.features import VisionFeatures
    from safevlm_sdk.policy import Action, Policy, load_policy
    from safevlm_sdk.raster import Limits
    from safevlm_sdk.taxonomy import RiskLevel, Taxonomy, load_taxonomy
    from safevlm_sdk.verdict import Verdict
    from safevlm_sdk.version import __version__

_HOMES = {
    "Action": "safevlm_sdk.policy",
    "Limits": "safevlm_sdk.raster",
    "Policy": "safevlm_sdk.policy",
    "RiskLevel": "safevlm_sdk.taxonomy",
    "Runtime": "safevlm_runtime.runtime",
    "SafeVLMError": "safevlm_sdk.errors",
    "Taxonomy": "safevlm_sdk.taxonomy",
    "Verdict": "safevlm_sdk.verdict",
    "VisionFeatures": "safevlm_sdk.features",
    "__version__": "safevlm_sdk.version",
    "load_engine": "safevlm_runtime.guard.engines.find",
    "load_policy": "safevlm_sdk.policy",
    "load_taxonomy": "safevlm_sdk.taxonomy",
}

__all__ = [
    "Action",
    "Limits",
    "Policy",
    "RiskLevel",
    "Runtime",
    "SafeVLMError",
    "Taxonomy",
    "Verdict",
    "VisionFeatures",
    "__version__",
    "load_engine",
    "load_policy",
    "load_taxonomy",
]


def __getattr__(name: str) -> Any:
    """Imports a public name's home on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return sorted(__all__)
