"""A checkpoint from the Hugging Face hub, and back.

A repository holds a checkpoint and nothing beside it but `KEPT_FILES`; one that holds anything else, a pickle above
all, is refused before anything is downloaded. What was downloaded stays in huggingface_hub's cache.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import is_offline_mode

from safevlm_sdk.errors import CheckpointError, HubContent, HubUnreachable
from safevlm_sdk.hub.client import Hub, Listing, Pushed, Target, is_commit, is_repository
from safevlm_training.checkpoint import (
    CHECKPOINT_FILES,
    CHECKPOINT_FOLDERS,
    FOLDER_SUFFIXES,
    checkpoint_digest,
    holds_only_a_checkpoint,
)
from safevlm_training.config import CONFIG_FILE, load_config
from safevlm_training.quiet import quiet

PATTERNS = (
    *sorted(CHECKPOINT_FILES),
    *(f"{folder}/*{suffix}" for folder in sorted(CHECKPOINT_FOLDERS) for suffix in sorted(FOLDER_SUFFIXES)),
)


def find_checkpoint(path: str | Path, *, revision: str | None = None, digest: str | None = None) -> Path:
    """The folder itself, or a downloaded copy of a repository's checkpoint.

    Without a network, a checkpoint in the cache serves where a commit is named, or HF_HUB_OFFLINE is set.

    Args:
        path: A folder, or an id as "owner/name".
        revision: Of the repository; None: main. A folder has none.
        digest: What `checkpoint_digest` must say of it.

    Raises:
        CheckpointError: It is neither, is a folder though a revision is named, or has another digest.
        HubError: The hub does not give it; `HubContent`: the repository holds more than a checkpoint.
    """
    if Path(path).is_dir():
        if revision is not None:
            raise CheckpointError(
                f"{path}: is a folder, which has no revision {revision!a}; leave it out, or pin the folder's digest"
            )
        folder = Path(path)
    elif is_repository(str(path)):
        with quiet():
            folder = _downloaded(Hub(), str(path), revision)
    else:
        raise CheckpointError(f"{path}: no checkpoint folder, and no Hugging Face id of the form owner/name")
    if digest is not None and (found := checkpoint_digest(folder)) != digest:
        raise CheckpointError(f"{path}: the checkpoint's digest is {found}, but {digest} is pinned; get that one")
    return folder


def push_checkpoint(path: str | Path, target: Target | str, *, token: str | None = None) -> tuple[Pushed, str]:
    """Uploads the files of a checkpoint folder in one commit.

    Args:
        path: The folder.
        target: Where to; or the repository alone, as "owner/name".
        token: None: the one that huggingface_hub finds.

    Returns:
        The commit, and the checkpoint's digest.

    Raises:
        CheckpointError: The folder is no checkpoint, or holds something else as well; the hub was not asked.
        HubContent: The branch holds something that is no checkpoint.
        HubError: The hub does not take it.
    """
    folder, where = Path(path), Target(repository=target) if isinstance(target, str) else target
    load_config(folder / CONFIG_FILE)
    digest = checkpoint_digest(folder)
    if not holds_only_a_checkpoint(folder):
        raise CheckpointError(
            f"{folder}: holds files that are no checkpoint's; push a folder that holds nothing else"
        )
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    with quiet():
        pushed = Hub(token).upload(where, files, message=f"SafeVLM checkpoint {digest}", foreign=_foreign)
    return pushed, digest


class PushToHub:
    """Gives a model with `save_pretrained` the method `push_to_hub`."""

    save_pretrained: Callable[..., None]

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
        **saved: Any,
    ) -> Pushed:
        """Uploads the checkpoint to a repository of the Hugging Face hub in one commit.

        Args:
            repo_id: As "owner/name"; made if need be.
            private: Of the repository; one that is there must be so already.
            revision: The branch, made if need be; None: main.
            token: None: the one that huggingface_hub finds.
            saved: What `save_pretrained` takes beside the path.

        Raises:
            CheckpointError: It cannot be written.
            HubError: The hub does not take it; `HubContent`: the branch holds something that is no checkpoint.
        """
        target = Target(repository=repo_id, private=private, revision=revision)
        with tempfile.TemporaryDirectory(prefix="safevlm-push-") as folder:
            self.save_pretrained(folder, **saved)
            return push_checkpoint(Path(folder), target, token=token)[0]


def _downloaded(hub: Hub, repository: str, revision: str | None) -> Path:
    try:
        listing = hub.listing(repository, revision)
    except HubUnreachable as problem:
        if is_commit(revision) or is_offline_mode():
            return hub.snapshot(repository, revision, PATTERNS, cached=True)
        raise HubUnreachable(
            f"{problem}; name a commit, or set HF_HUB_OFFLINE=1 to use what was downloaded"
        ) from problem
    if foreign := _foreign(listing):
        raise HubContent(
            f"{listing}: holds {foreign[0]!a}, which no checkpoint holds; nothing was downloaded: have its owner "
            "remove it, or name a revision without it"
        )
    if CONFIG_FILE not in listing.sizes:
        raise HubContent(f"{listing}: holds no {CONFIG_FILE}, so it is no checkpoint; check the id and the revision")
    folder = hub.snapshot(repository, revision, PATTERNS)
    if folder.name != listing.commit:
        raise HubContent(f"{listing}: its branch moved on while it was downloaded; try again, or name a commit")
    return folder


def _foreign(listing: Listing) -> list[str]:
    return sorted(path for path in listing.sizes if not _is_of_a_checkpoint(path))


def _is_of_a_checkpoint(path: str) -> bool:
    if path in CHECKPOINT_FILES:
        return True
    first, *rest = PurePosixPath(path).parts
    return (
        first in CHECKPOINT_FOLDERS
        and bool(rest)
        and ".." not in rest
        and PurePosixPath(path).suffix in FOLDER_SUFFIXES
    )
