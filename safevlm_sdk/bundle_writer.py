"""Writing a bundle: all of it or nothing, and never over something else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from safevlm_sdk.atomic import publish_folder
from safevlm_sdk.errors import ExportError, ManifestError, SafeVLMError
from safevlm_sdk.golden import Golden, golden_bytes
from safevlm_sdk.manifest import (
    CARD_FILE,
    GOLDEN_FILE,
    MANIFEST_FILE,
    POLICY_FILE,
    SIGNATURE_FILE,
    Manifest,
    manifest_bytes,
    parse_manifest,
    sealed,
)
from safevlm_sdk.strict import digest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BundleParts:
    """Everything that a bundle holds.

    Attributes:
        manifest: Complete but for `digest`, and with any digests in `files`.
        graphs: Path inside the bundle to the graph's bytes.
        golden: Golden vectors.
        policy: The text of `policy.toml`.
        card: The model card, Markdown.
    """

    manifest: Manifest
    graphs: Mapping[str, bytes]
    golden: Golden
    policy: bytes
    card: str


def bundle_files(parts: BundleParts) -> dict[str, bytes]:
    """Path inside the bundle to bytes, with the sealed manifest last."""
    contents = {
        **parts.graphs,
        GOLDEN_FILE: golden_bytes(parts.golden),
        POLICY_FILE: parts.policy,
        CARD_FILE: parts.card.encode("utf-8"),
    }
    files = {path: digest(data) for path, data in contents.items()}
    manifest = sealed(msgspec.structs.replace(parts.manifest, files=files))
    return {**contents, MANIFEST_FILE: manifest_bytes(manifest)}


def write_bundle(
    out: Path,
    parts: BundleParts,
    *,
    check: Callable[[Path], None] = lambda _: None,
    error: type[SafeVLMError] = ExportError,
) -> Manifest:
    """Puts a bundle in place; a bundle that was there is exchanged for it in one step.

    Args:
        out: The bundle's folder.
        parts: What to write.
        check: Called with the written folder before it is put in place; what it raises leaves `out` untouched.
        error: What to raise.

    Returns:
        The sealed manifest.

    Raises:
        SafeVLMError: Of type `error`: `out` is something other than a bundle, or cannot be written.
    """
    contents = bundle_files(parts)

    def fill(folder: Path) -> None:
        for path, data in contents.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        check(folder)

    publish_folder(out, fill, replaceable=is_bundle, error=error)
    return parse_manifest(contents[MANIFEST_FILE])


def is_bundle(folder: Path) -> bool:
    """True for a folder with a valid manifest and no file that the manifest does not list."""
    try:
        manifest = parse_manifest((folder / MANIFEST_FILE).read_bytes())
    except (OSError, ManifestError):
        return False
    known = {*manifest.files, MANIFEST_FILE, SIGNATURE_FILE}
    found = (
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    )
    return known.issuperset(found)
