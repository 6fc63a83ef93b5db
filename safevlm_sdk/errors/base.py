"""The root of the tree, and what any part may raise."""

from __future__ import annotations

from typing import ClassVar


class SafeVLMError(Exception):
    """The root: catch this to catch everything that the SDK raises on purpose."""

    code: ClassVar[str] = "safevlm_error"


class OptionError(SafeVLMError):
    """An argument of a constructor or command is out of range."""

    code = "option_invalid"


class MissingExtra(SafeVLMError):
    """A package of an optional extra is not installed."""

    code = "missing_extra"

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'safevlm-sdk[{extra}]'")
        self.package = package
        self.extra = extra
