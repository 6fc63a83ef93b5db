"""Language models that answer behind a gate; `load_engine` finds those that installed packages bring."""

from __future__ import annotations

from safevlm_runtime.guard.engines.find import engine_names, load_engine

__all__ = ["engine_names", "load_engine"]
