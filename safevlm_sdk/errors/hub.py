"""The Hugging Face hub cannot give or take something."""

from __future__ import annotations

from .base import SafeVLMError


class HubError(SafeVLMError):
    """The hub does not do what was asked of it."""

    code = "hub_failed"


class HubUnreachable(HubError):
    """There is no connection to the hub, or none is allowed."""

    code = "hub_unreachable"


class HubDenied(HubError):
    """The hub lets only some people in, and this is not one of them."""

    code = "hub_denied"


class HubNotFound(HubError):
    """The hub has no such repository, revision or file, or hides it."""

    code = "hub_not_found"


class HubContent(HubError):
    """The repository holds something else than what was asked for, or may not be overwritten."""

    code = "hub_content"
