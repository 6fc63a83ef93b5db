"""A bundle from the Hugging Face hub into a folder, and back.

A repository holds a bundle and nothing beside it but `KEPT_FILES`. Nothing of it is believed: the manifest is read
first, only what it lists is downloaded, and the whole is read as any bundle is before it is put in place.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from safevlm_runtime.bundle import folder as bundle_folder
from safevlm_runtime.bundle.reader import MAX_BUNDLE_BYTES, MAX_MANIFEST_BYTES, check_pin, read_bundle
from safevlm_runtime.bundle.signature import Signer
from safevlm_sdk.atomic import publish_folder, require_publishable
from safevlm_sdk.bundle_writer import is_bundle
from safevlm_sdk.errors import BundleError, HubContent, ManifestError
from safevlm_sdk.hub.client import Hub, Listing, Pushed, Target
from safevlm_sdk.manifest import MANIFEST_FILE, SIGNATURE_FILE, Manifest, parse_manifest

_CLIENT_FOLDER = ".cache"  # where huggingface_hub notes what it downloaded


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledBundle:
    """A bundle that was put in place.

    Attributes:
        path: Its folder.
        repository: As "owner/name".
        revision: That was asked for.
        commit: That it resolved to.
        digest: The bundle's.
        pinned: The digest was compared with a given one.
        signer: Who was found to have signed it; None: not verified. Without pin and signer, that this is the bundle
            that was meant is the word of the hub and of whoever may write to the repository.
        files: How many, the manifest included.
        size: Their bytes.
    """

    path: Path
    repository: str
    revision: str
    commit: str
    digest: str
    pinned: bool
    signer: str | None
    files: int
    size: int


def pull_bundle(
    repository: str,
    out: Path,
    *,
    revision: str | None = None,
    digest: str | None = None,
    signer: Signer | None = None,
    token: str | None = None,
) -> PulledBundle:
    """Downloads a bundle beside `out`, reads it as a loader does, and puts it in place in one step.

    Args:
        repository: As "owner/name".
        out: A folder; a bundle that is there is exchanged for the new one.
        revision: A branch, tag or commit; None: main.
        digest: `sha256:…` that the bundle must have.
        signer: Who must have signed it.
        token: None: the one that huggingface_hub finds.

    Raises:
        HubError: The hub does not give it; `HubContent`: the repository holds something else than a bundle.
        BundleError: It is no valid bundle, or not the one that was asked for; `out` is untouched.
    """
    require_publishable(out, is_bundle, error=BundleError)
    hub = Hub(token)
    listing = hub.listing(repository, revision)
    manifest = _manifest(hub, listing)
    check_pin(manifest, digest)
    paths = _paths(listing, manifest)
    size = 0

    def fill(folder: Path) -> None:
        nonlocal size
        for path in paths:
            hub.download(listing, path, folder)
        shutil.rmtree(folder / _CLIENT_FOLDER)
        size = read_bundle(folder, digest=digest, signer=signer).size

    publish_folder(out, fill, replaceable=is_bundle, error=BundleError)
    return PulledBundle(
        path=out,
        repository=repository,
        revision=listing.revision,
        commit=listing.commit,
        digest=manifest.digest,
        pinned=digest is not None,
        signer=None if signer is None else signer.name,
        files=len(paths),
        size=size,
    )


def push_bundle(bundle: Path, target: Target, *, token: str | None = None) -> tuple[Pushed, str]:
    """Reads a bundle as a loader does, then uploads its files in one commit.

    Returns:
        The commit, and the bundle's digest: whoever pulls it needs both.

    Raises:
        BundleError: It is no valid bundle; the hub was not asked.
        HubContent: The branch holds something that is no bundle.
        HubError: The hub does not take it.
    """
    read = read_bundle(bundle)
    with bundle_folder.opened(bundle) as opened:
        names, _ = bundle_folder.listing(opened)
    hub = Hub(token)
    pushed = hub.upload(
        target,
        {name: bundle / name for name in names},
        message=f"SafeVLM bundle {read.manifest.name}, {read.manifest.digest}",
        foreign=lambda there: _foreign(hub, there),
    )
    return pushed, read.manifest.digest


def _manifest(hub: Hub, listing: Listing) -> Manifest:
    if MANIFEST_FILE not in listing.sizes:
        raise HubContent(f"{listing}: holds no {MANIFEST_FILE}, so it is no bundle; check the id and the revision")
    _check_size(listing, [MANIFEST_FILE], MAX_MANIFEST_BYTES)
    with TemporaryDirectory(prefix="safevlm-pull-") as folder:
        return parse_manifest(hub.download(listing, MANIFEST_FILE, Path(folder)).read_bytes(), where=str(listing))


def _paths(listing: Listing, manifest: Manifest) -> list[str]:
    """What to download; names from the hub are not used as paths before the manifest vouches for them."""
    listed = {*manifest.files, MANIFEST_FILE}
    missing = sorted(listed - set(listing.sizes))
    if missing:
        raise HubContent(f"{listing}: lacks {missing[0]}, which its manifest lists; have its owner push it again")
    unlisted = sorted(set(listing.sizes) - listed - {SIGNATURE_FILE})
    if unlisted:
        raise HubContent(
            f"{listing}: holds {unlisted[0]!a}, which the manifest does not list; nothing of it was put in place"
        )
    paths = sorted(listing.sizes)
    _check_size(listing, paths, MAX_BUNDLE_BYTES)
    return paths


def _check_size(listing: Listing, paths: list[str], limit: int) -> None:
    size = sum(listing.sizes[path] or 0 for path in paths)
    if size > limit:
        raise HubContent(f"{listing}: {paths[0] if len(paths) == 1 else 'it'} has {size} bytes; at most {limit}")


def _foreign(hub: Hub, there: Listing) -> set[str]:
    """What a branch holds and an earlier bundle there would not."""
    try:
        return set(there.sizes) - {*_manifest(hub, there).files, MANIFEST_FILE, SIGNATURE_FILE}
    except (HubContent, ManifestError):
        return set(there.sizes)
