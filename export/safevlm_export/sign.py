"""Signing a bundle with OpenSSF model signing: the signature is of the manifest, which hashes every other file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from safevlm_runtime.bundle.reader import read_bundle
from safevlm_sdk.atomic import publish_file
from safevlm_sdk.errors import ExportError, MissingExtra, OptionError
from safevlm_sdk.manifest import MANIFEST_FILE, SIGNATURE_FILE, manifest_bytes

PASSWORD_VARIABLE = "SAFEVLM_SIGN_PASSWORD"  # noqa: S105 - where the password is, not what it is


def key_signer(key: Path) -> Any:
    """A signer with a private key (PEM, P-256, P-384 or P-521); its password is read from the environment.

    Raises:
        OptionError: The key cannot be read or used.
        MissingExtra: model-signing is not installed.
    """
    try:
        from model_signing import signing
    except ImportError as problem:
        raise MissingExtra(problem.name or "model-signing", "sign") from problem
    password = os.environ.get(PASSWORD_VARIABLE)
    try:
        # The library hands the password on to `cryptography`, which takes bytes.
        return signing.Config().use_elliptic_key_signer(
            private_key=key, password=None if password is None else password.encode()
        )
    except OSError as problem:
        raise OptionError(f"{key}: cannot be read ({problem.strerror})") from problem
    except Exception as problem:
        raise OptionError(
            f"{key}: is no private key in PEM on the curve P-256, P-384 or P-521, or its password is not in "
            f"{PASSWORD_VARIABLE} ({type(problem).__name__})"
        ) from problem


def sign_bundle(folder: Path, signer: Any) -> str:
    """Reads and checks a bundle, signs what was read, and puts SIGNATURE into it; an older one is replaced.

    Args:
        folder: The bundle's folder.
        signer: From `key_signer`.

    Returns:
        The digest that is signed now.

    Raises:
        BundleError: There is no sound bundle to sign.
        ExportError: The signature cannot be made or written.
    """
    manifest = read_bundle(folder).manifest
    with tempfile.TemporaryDirectory(prefix="safevlm-") as temporary:
        signed, detached = Path(temporary, MANIFEST_FILE), Path(temporary, SIGNATURE_FILE)
        signed.write_bytes(manifest_bytes(manifest))
        try:
            signer.sign(signed, detached)
        except Exception as problem:  # the library raises errors of three packages
            raise ExportError(f"{folder}: could not be signed ({problem}); it lies there unsigned") from problem
        publish_file(folder / SIGNATURE_FILE, detached.read_bytes(), error=ExportError)
    return manifest.digest
