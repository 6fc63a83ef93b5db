"""The `safevlm` and `safevlm-export` commands."""

from safevlm_sdk.command.app import export_main, main

__all__ = ["export_main", "main"]
