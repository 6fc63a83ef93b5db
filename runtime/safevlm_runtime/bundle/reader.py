"""Reading a bundle: every file once, hashed and compared, before anything else happens with it."""

from __future__ import annotations

import hmac
import os
import re
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from safevlm_runtime.bundle import folder, onnx_guard
from safevlm_runtime.bundle.ir_guard import check_ir
from safevlm_runtime.bundle.signature import MAX_SIGNATURE_BYTES, Signer, verify_signature
from safevlm_sdk.errors import BundleDigest, BundleLayout, BundleTampered, BundleUnsigned, ManifestError
from safevlm_sdk.golden import Golden, parse_golden
from safevlm_sdk.manifest import (
    CARD_FILE,
    GOLDEN_FILE,
    MANIFEST_FILE,
    POLICY_FILE,
    SIGNATURE_FILE,
    Manifest,
    parse_manifest,
)
from safevlm_sdk.policy import Policy, parse_policy
from safevlm_sdk.strict import digest as digest_of

MAX_MANIFEST_BYTES = 4 * 2**20
MAX_TEXT_BYTES = 4 * 2**20
MAX_GOLDEN_BYTES = 2**28
MAX_FILE_BYTES = 4 * 2**30
MAX_BUNDLE_BYTES = 16 * 2**30

_PIN = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bundle:
    """A bundle whose every byte fits its manifest.

    Attributes:
        path: Where it was read; nothing is read from there again.
        manifest: Parsed; its digest is the bundle's identity.
        policy: The bundle's own policy.
        policy_text: Its TOML text.
        golden: Inputs and outputs of the self-test.
        graphs: Graph id to the graph's bytes.
        weights: Graph id to the bytes of its second file, where its format has one.
        engines: Engine id to the engine's bytes.
        card: The model card, Markdown.
        signed: There is a SIGNATURE file.
        verified: The signature was checked, and is by the signer that the caller named.
        pinned: The digest was compared with one that the caller gave.
        size: Bytes of all files.
    """

    path: Path
    manifest: Manifest
    policy: Policy
    policy_text: bytes
    golden: Golden
    graphs: dict[str, bytes]
    engines: dict[str, bytes]
    card: str
    signed: bool
    verified: bool
    pinned: bool
    size: int
    weights: dict[str, bytes] = field(default_factory=dict)

    @property
    def executables(self) -> dict[str, bytes]:
        """Path inside the bundle to bytes, of all graphs and engines."""
        manifest = self.manifest
        found = {graph.file: self.graphs[graph.id] for graph in manifest.graphs}
        found |= {graph.weights: self.weights[graph.id] for graph in manifest.graphs if graph.weights is not None}
        return found | {engine.file: self.engines[engine.id] for engine in manifest.engines}


def read_bundle(path: str | os.PathLike[str], *, digest: str | None = None, signer: Signer | None = None) -> Bundle:
    """Reads and checks a bundle; runs nothing of it.

    Without a pinned digest or a signer this detects corruption, not an attacker who can write a manifest.

    Args:
        path: The folder.
        digest: `sha256:…` that the bundle must have.
        signer: Who must have signed its manifest, and with that every byte that is returned.

    Raises:
        BundleMissing: No bundle lies at the path.
        BundleLayout: A file is missing, unlisted, a link, too large or no regular file.
        BundleTampered: A file does not have the hash that the manifest states.
        BundleDigest: The bundle is not the pinned one.
        BundleSignature: It is not signed, or not by the signer.
        BundleGraph: A graph holds what a graph may not hold.
        ManifestError: The manifest or the golden file is not valid.
        PolicyError: The bundle's policy is not valid.
    """
    root = Path(path)
    # Installers such as uv hard-link a package's files from their cache.
    hardlinks = _is_starter(root)
    with folder.opened(root) as opened:
        if MANIFEST_FILE not in os.listdir(opened):
            raise BundleLayout(f"{root}: holds no {MANIFEST_FILE}; give the folder that `safevlm-export` wrote")
        found, folders = folder.listing(opened)
        written = folder.read_file(opened, MANIFEST_FILE, limit=MAX_MANIFEST_BYTES, hardlinks=hardlinks)
        if signer is not None:
            _check_signature(opened, written, signer, signed=SIGNATURE_FILE in found, hardlinks=hardlinks)
        manifest = parse_manifest(written)
        check_pin(manifest, digest)
        _check_listing(manifest, found, folders)
        contents = _read_listed(opened, manifest, hardlinks)
    return Bundle(
        path=root,
        manifest=manifest,
        policy=parse_policy(contents[POLICY_FILE], where=POLICY_FILE),
        policy_text=contents[POLICY_FILE],
        golden=parse_golden(contents[GOLDEN_FILE], where=GOLDEN_FILE),
        graphs=_graphs(manifest, contents),
        weights={graph.id: contents[graph.weights] for graph in manifest.graphs if graph.weights is not None},
        engines={engine.id: contents[engine.file] for engine in manifest.engines},
        card=_text(contents[CARD_FILE], CARD_FILE),
        signed=SIGNATURE_FILE in found,
        verified=signer is not None,
        pinned=digest is not None,
        size=len(written) + sum(map(len, contents.values())),
    )


def starter_path() -> Path:
    """Where the bundle that ships in this package lies, if it is there."""
    return Path(str(resources.files("safevlm_runtime") / "starter"))


def _is_starter(root: Path) -> bool:
    try:
        return os.path.samefile(root, starter_path())
    except OSError:
        return False


def check_pin(manifest: Manifest, digest: str | None) -> None:
    """Compares the manifest's digest with a pinned one.

    Raises:
        BundleDigest: The bundle is not the pinned one, or the pin is no digest.
    """
    if digest is None:
        return
    if not _PIN.fullmatch(digest):
        raise BundleDigest(f"the pinned digest {digest!r} is not of the form sha256:<64 hexadecimal digits>")
    if not hmac.compare_digest(digest, manifest.digest):
        raise BundleDigest(f"the bundle's digest is {manifest.digest}, but {digest} is pinned; get the pinned bundle")


def _check_signature(opened: int, written: bytes, signer: Signer, *, signed: bool, hardlinks: bool) -> None:
    if not signed:
        raise BundleUnsigned(
            f"the bundle holds no {SIGNATURE_FILE}, but it must be signed by {signer.name}; get the signed bundle"
        )
    signature = folder.read_file(opened, SIGNATURE_FILE, limit=MAX_SIGNATURE_BYTES, hardlinks=hardlinks)
    verify_signature(written, signature, signer)


def _check_listing(manifest: Manifest, found: set[str], folders: set[str]) -> None:
    missing = sorted(set(manifest.files) - found)
    if missing:
        raise BundleLayout(f"{missing[0]} is listed and missing; copy the bundle again")
    unlisted = sorted(found - set(manifest.files) - {MANIFEST_FILE, SIGNATURE_FILE})
    if unlisted:
        raise BundleLayout(f"{unlisted[0]!a} is not listed in the manifest; remove it or export again")
    parts = [path.split("/")[:-1] for path in manifest.files]
    expected = {"/".join(part[:depth]) for part in parts for depth in range(1, len(part) + 1)}
    stray = sorted(folders - expected)
    if stray:
        raise BundleLayout(f"folder {stray[0]!a} holds no listed file; remove it")


def _read_listed(opened: int, manifest: Manifest, hardlinks: bool) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    left = MAX_BUNDLE_BYTES
    special = {POLICY_FILE: MAX_TEXT_BYTES, CARD_FILE: MAX_TEXT_BYTES, GOLDEN_FILE: MAX_GOLDEN_BYTES}
    for path, expected in manifest.files.items():
        limit = min(left, special.get(path, MAX_FILE_BYTES))
        data = folder.read_file(opened, path, limit=limit, hardlinks=hardlinks)
        actual = digest_of(data)
        if actual != expected:
            raise BundleTampered(f"{path}: is {actual}, but the manifest says {expected}; copy the bundle again")
        contents[path] = data
        left -= len(data)
    return contents


def _graphs(manifest: Manifest, contents: dict[str, bytes]) -> dict[str, bytes]:
    for graph in manifest.graphs:
        if graph.backend == "onnxruntime":
            onnx_guard.check_onnx(contents[graph.file], where=graph.file)
        elif graph.weights is not None:
            check_ir(contents[graph.file], contents[graph.weights], where=graph.file)
    return {graph.id: contents[graph.file] for graph in manifest.graphs}


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise ManifestError(f"{where}: is not UTF-8 text") from problem
