"""A data set cannot be audited, or one item of it names no image."""

from __future__ import annotations

from .base import SafeVLMError


class AuditError(SafeVLMError):
    """An audit cannot be written, read or finished."""

    code = "audit_failed"


class AuditSourceError(AuditError):
    """The source is nothing that can be audited."""

    code = "audit_source_invalid"


class AuditMismatch(AuditError):
    """What lies in the folder is the audit of another source, bundle or policy, or the source has changed."""

    code = "audit_mismatch"


class AuditBusy(AuditError):
    """Another process writes this audit."""

    code = "audit_busy"


class AuditStopped(AuditError):
    """An audit was asked to stop, and can be gone on with."""

    code = "audit_stopped"


class ItemUnusable(AuditError):
    """An item of a source names no image whose bytes could be read; it gets a row of its own."""

    code = "item_unusable"


class HashHookFailed(AuditError):
    """The hash hook raised, or gave something that is no label."""

    code = "hash_hook_failed"
