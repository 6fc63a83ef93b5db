"""Who signed a bundle: OpenSSF model signing of the manifest, which names the hash of every other file."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from safevlm_sdk.errors import BundleSignature, BundleSigner, MissingExtra, OptionError
from safevlm_sdk.manifest import MANIFEST_FILE, SIGNATURE_FILE

MAX_SIGNATURE_BYTES = 2**20

_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySigner:
    """Whoever holds the private key of this public one (PEM, on the curve P-256, P-384 or P-521)."""

    public_key: Path

    @property
    def name(self) -> str:
        """For messages."""
        return f"the key of {self.public_key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySigner:
    """Whoever proved an identity (an e-mail address, a workflow) to Sigstore, by way of an OpenID issuer."""

    identity: str
    issuer: str

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.identity}, for whom {self.issuer} vouches"


Signer = KeySigner | IdentitySigner


class _Envelope(msgspec.Struct, rename="camel"):
    payload: bytes


class _Signature(msgspec.Struct, rename="camel"):
    dsse_envelope: _Envelope


class _Resource(msgspec.Struct, frozen=True):
    name: str
    algorithm: str
    digest: str


class _Predicate(msgspec.Struct):
    resources: tuple[_Resource, ...]


class _Statement(msgspec.Struct, rename="camel"):
    kind: str = msgspec.field(name="_type")
    predicate_type: str
    predicate: _Predicate


def verify_signature(manifest: bytes, signature: bytes, signer: Signer) -> None:
    """Checks that a signature is of exactly these bytes, and by this signer.

    Args:
        manifest: The bytes of `manifest.json` that were read and are going to be used.
        signature: The bytes of `SIGNATURE`.
        signer: Who must have made it.

    Raises:
        BundleSignature: It is no signature, of something else, or cannot be checked here.
        BundleSigner: Somebody else made it.
        OptionError: The public key cannot be used.
        MissingExtra: model-signing is not installed.
    """
    _check_statement(manifest, signature)
    config = _config(signer)
    # The library verifies paths. It gets copies of the bytes at hand: what lies in the bundle may have changed since.
    with tempfile.TemporaryDirectory(prefix="safevlm-") as folder:
        signed, detached = Path(folder, MANIFEST_FILE), Path(folder, SIGNATURE_FILE)
        signed.write_bytes(manifest)
        detached.write_bytes(signature)
        try:
            config.verify(signed, detached)
        except Exception as problem:  # the library raises errors of three packages
            raise BundleSigner(
                f"{SIGNATURE_FILE}: is not by {signer.name} ({_reason(problem)}); check whose signature you expect, "
                "and get the bundle from them"
            ) from problem


def _check_statement(manifest: bytes, signature: bytes) -> None:
    """The signed statement must name one file, by its SHA-256; the library alone would take other statements, too."""
    try:
        envelope = msgspec.json.decode(signature, type=_Signature).dsse_envelope
        statement = msgspec.json.decode(envelope.payload, type=_Statement)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise BundleSignature(
            f"{SIGNATURE_FILE}: is no signature of OpenSSF model signing ({problem}); sign the bundle again"
        ) from problem
    if (statement.kind, statement.predicate_type) != (_STATEMENT, _PREDICATE):
        raise BundleSignature(
            f"{SIGNATURE_FILE}: states {statement.predicate_type!a}; {_PREDICATE} is read: sign the bundle again"
        )
    found = [(resource.name, resource.algorithm, resource.digest) for resource in statement.predicate.resources]
    wanted = [(".", "sha256", hashlib.sha256(manifest).hexdigest())]
    if found != wanted:
        named = f"sha256 {found[0][2]!a}" if len(found) == 1 else f"{len(found)} files"
        raise BundleSignature(
            f"{SIGNATURE_FILE}: is of {named}, but {MANIFEST_FILE} is sha256 {wanted[0][2]!r}: it signs another "
            "bundle, or the manifest was changed; get the signed bundle again"
        )


def _config(signer: Signer) -> Any:
    try:
        from model_signing import verifying
    except ImportError as problem:
        raise MissingExtra(problem.name or "model-signing", "sign") from problem
    config = verifying.Config()
    if isinstance(signer, IdentitySigner):
        try:
            return config.use_sigstore_verifier(identity=signer.identity, oidc_issuer=signer.issuer)
        except Exception as problem:  # the trust root comes over the network
            raise BundleSignature(
                f"Sigstore's trust root could not be loaded ({_reason(problem)}); go online, or verify with a key"
            ) from problem
    try:
        return config.use_elliptic_key_verifier(public_key=signer.public_key)
    except OSError as problem:
        raise OptionError(f"{signer.public_key}: cannot be read ({problem.strerror})") from problem
    except Exception as problem:
        raise OptionError(
            f"{signer.public_key}: is no public key in PEM on the curve P-256, P-384 or P-521 ({_reason(problem)})"
        ) from problem


def _reason(problem: Exception) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0][:200]
