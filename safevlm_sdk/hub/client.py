"""Repositories of the Hugging Face hub: what one holds at a commit, one file of it, and one commit to it.

This module and those that import it need the package huggingface_hub, which also knows the address of the hub
(HF_ENDPOINT) and the token (HF_TOKEN, or what `hf auth login` kept). A token is sent and never shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token, snapshot_download

from safevlm_sdk.errors import HubContent, HubError, OptionError
from safevlm_sdk.hub.telling import telling
from safevlm_sdk.version import __version__

MAIN = "main"
KEPT_FILES = frozenset((".gitattributes", "LICENSE", "NOTICE"))  # of the hub and of people; never downloaded

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a repository holds at one commit.

    Attributes:
        repository: As "owner/name".
        revision: The branch, tag or commit that was asked for.
        commit: 40 hexadecimal digits.
        private: Whether strangers cannot see it.
        sizes: Path to bytes, without `KEPT_FILES`; None where the hub does not say.
    """

    repository: str
    revision: str
    commit: str
    private: bool
    sizes: Mapping[str, int | None]

    def __str__(self) -> str:
        """Repository and commit."""
        return f"{self.repository}@{self.commit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to upload.

    Attributes:
        repository: As "owner/name"; made if need be.
        private: Of the repository; None: as it is, or as the owner's new ones are.
        revision: The branch, made if need be; None: main.
    """

    repository: str
    private: bool | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What was uploaded.

    Attributes:
        repository: As "owner/name".
        commit: The commit that holds it: pin it as `revision`.
        address: Of the commit's page.
    """

    repository: str
    commit: str
    address: str


def is_repository(text: str) -> bool:
    """Whether this has the form "owner/name"."""
    return _REPOSITORY.fullmatch(text) is not None


def is_commit(revision: str | None) -> bool:
    """Whether this revision names a commit, which cannot change, and no branch or tag."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


class Hub:
    """A connection to the hub.

    Args:
        token: None: the one that huggingface_hub finds, if there is one.

    Raises:
        OptionError: The token is none.
    """

    def __init__(self, token: str | None = None) -> None:
        with telling("the hub's token"):
            found = token or get_token()
        if found is not None and not _TOKEN.fullmatch(found):  # a client's message would repeat it
            raise OptionError(
                "the token for the hub holds characters that no token has; set HF_TOKEN anew, or run `hf auth login`"
            )
        self._api = HfApi(token=found, library_name="safevlm-sdk", library_version=__version__)

    def listing(self, repository: str, revision: str | None = None) -> Listing:
        """Resolves a revision to its commit, and lists what that holds.

        Raises:
            OptionError: The id is not of the form owner/name, or the revision is empty.
            HubError: The hub is not there, does not let in, or does not know it; each has its own class.
        """
        _require_named(repository, revision)
        wanted = MAIN if revision is None else revision
        with telling(f"{repository}@{wanted}"):
            found = self._api.model_info(repository, revision=wanted, files_metadata=True)
        commit = found.sha or ""
        if not is_commit(commit) or (is_commit(wanted) and commit != wanted):
            raise HubError(f"{repository}@{wanted}: the hub gives {commit!r} as its commit; is HF_ENDPOINT a hub?")
        files = {file.rfilename: file.size for file in found.siblings or ()}
        return Listing(
            repository=repository,
            revision=wanted,
            commit=commit,
            private=bool(found.private),
            sizes={path: size for path, size in files.items() if path not in KEPT_FILES},
        )

    def download(self, listing: Listing, path: str, folder: Path) -> Path:
        """Downloads one file of a listing into a folder, where huggingface_hub also leaves a folder `.cache`.

        Raises:
            HubError: It cannot be downloaded.
        """
        with telling(f"{listing}: {path}"):
            return Path(
                self._api.hf_hub_download(listing.repository, path, revision=listing.commit, local_dir=folder)
            )

    def snapshot(
        self, repository: str, revision: str | None, patterns: Iterable[str], *, cached: bool = False
    ) -> Path:
        """Downloads the files that fit patterns into huggingface_hub's cache, and returns the folder of the commit.

        Args:
            repository: As "owner/name".
            revision: None: main.
            patterns: As of `fnmatch`.
            cached: Ask nobody; take what lies in the cache.

        Raises:
            HubError: Something cannot be downloaded, or does not lie in the cache.
        """
        with telling(f"{repository}@{revision or MAIN}"):
            return Path(
                snapshot_download(
                    repository,
                    revision=revision,
                    allow_patterns=list(patterns),
                    local_files_only=cached,
                    token=self._api.token,
                )
            )

    def upload(
        self,
        target: Target,
        files: Mapping[str, Path],
        *,
        message: str,
        foreign: Callable[[Listing], Iterable[str]],
    ) -> Pushed:
        """Makes one commit, after which the branch holds these files, `KEPT_FILES` and no others.

        Args:
            target: Where to.
            files: Path in the repository to the file here.
            message: Of the commit.
            foreign: Names what a branch holds and may not lose.

        Raises:
            HubContent: The branch holds such files, or the repository is public and must not be, or the reverse.
            HubError: The hub does not take it.
        """
        _require_named(target.repository, target.revision)
        with telling(target.repository):
            self._api.create_repo(target.repository, private=target.private, exist_ok=True)
            if target.revision is not None:
                self._api.create_branch(target.repository, branch=target.revision, exist_ok=True)
        there = self.listing(target.repository, target.revision)
        _check_privacy(target, there)
        lost = sorted(foreign(there))
        if lost:
            raise HubContent(f"{there}: holds {lost[0]!a}, which would be lost; name another repository or branch")
        gone = [CommitOperationDelete(path) for path in sorted(set(there.sizes) - set(files))]
        new = [CommitOperationAdd(path, file) for path, file in sorted(files.items())]
        with telling(target.repository):
            made = self._api.create_commit(
                target.repository,
                [*gone, *new],
                commit_message=message,
                revision=target.revision,
                parent_commit=there.commit,
            )
        return Pushed(repository=target.repository, commit=made.oid, address=made.commit_url)


def _require_named(repository: str, revision: str | None) -> None:
    if not is_repository(repository):
        raise OptionError(f"{repository!a}: is no repository of the hub; give its id as owner/name")
    if revision is not None and not revision.strip():  # as of a variable that is not set: it is no wish for main
        raise OptionError(f"{repository}: the revision is empty; name a branch, tag or commit, or leave it out")


def _check_privacy(target: Target, there: Listing) -> None:
    if target.private is not None and there.private != target.private:
        found, wanted = ("private", "public") if there.private else ("public", "private")
        raise HubContent(
            f"{target.repository}: exists and is {found}, but was to be {wanted}; nothing was uploaded: change it on "
            "the hub, or name another"
        )
