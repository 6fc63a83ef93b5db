"""A bundle is refused."""

from __future__ import annotations

from .base import SafeVLMError


class BundleError(SafeVLMError):
    """A bundle is refused."""

    code = "bundle_invalid"


class BundleMissing(BundleError):
    """No bundle lies at the path."""

    code = "bundle_missing"


class BundleLayout(BundleError):
    """A file is missing, unlisted, a link, or no regular file."""

    code = "bundle_layout"


class BundleTampered(BundleError):
    """A file's bytes do not have the hash that the manifest states."""

    code = "bundle_tampered"


class BundleDigest(BundleError):
    """The bundle is not the one that was pinned."""

    code = "bundle_digest"


class BundleSignature(BundleError):
    """The signature is no signature of this bundle's manifest."""

    code = "bundle_signature"


class BundleUnsigned(BundleSignature):
    """A signature was demanded and there is none."""

    code = "bundle_unsigned"


class BundleSigner(BundleSignature):
    """The signature was not made by the key or identity that was demanded."""

    code = "bundle_signer"


class BundleGraph(BundleError):
    """A graph holds something that a bundle may not hold, or has other inputs or outputs than stated."""

    code = "bundle_graph"


class BundleEngine(BundleError):
    """An engine of the bundle cannot be used."""

    code = "bundle_engine"


class EngineUntrusted(BundleEngine):
    """The engine lies in a bundle that is neither signed nor pinned: an engine is native code."""

    code = "engine_untrusted"


class EngineMismatch(BundleEngine):
    """The engine was built for another version, system or GPU, or of another graph."""

    code = "engine_mismatch"


class EngineUnreadable(BundleEngine):
    """The engine is truncated, damaged, or not what the manifest says it is."""

    code = "engine_unreadable"


class BundleSelfTest(BundleError):
    """The backend does not reproduce the golden outputs on this machine."""

    code = "bundle_self_test"


class BundleUncalibrated(BundleError):
    """The bundle carries no proof of decisions and was loaded without `allow_uncalibrated=True`."""

    code = "bundle_uncalibrated"


class ManifestError(BundleError):
    """The manifest is not of this schema, or not canonical."""

    code = "manifest_invalid"
