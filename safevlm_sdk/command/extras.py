"""Checks that an extra is installed before a command that needs it starts."""

from __future__ import annotations

from importlib.util import find_spec

from safevlm_sdk.errors import MissingExtra


def needs(extra: str, *packages: str) -> None:
    """Raises MissingExtra, which names the pip command, for the first package that is not installed."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtra(package, extra)
