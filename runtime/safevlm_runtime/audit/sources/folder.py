"""A folder of image files, with its sub-folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from safevlm_runtime.audit.item import File, Item, Unusable, stated
from safevlm_runtime.audit.sources.source import (
    FOLDER_LINKS,
    HEAD,
    IMAGE_ENDINGS,
    OTHER_FILES,
    Described,
    is_image,
)

Found = Literal["folder", "link", "file"] | OSError
"""What something in a folder is; a folder that cannot be looked into is the reason why."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Image files, sorted by name within each folder.

    A link to a file is that file, a link to a folder is not followed. Of each folder the names are held at once.
    """

    path: str

    def describe(self) -> Described:
        """See `Source.describe`."""
        return Described(kind="folder", path=self.path)

    def items(self, passed_over: Counter[str] | None = None) -> Iterator[Item]:
        """See `Source.items`."""
        counter: Counter[str] = Counter() if passed_over is None else passed_over
        for path, relative, found in walk(self.path):
            if isinstance(found, OSError):
                yield _closed(relative, found)
            elif found == "link" and os.path.isdir(path):
                counter[FOLDER_LINKS] += 1
            elif _may_be_image(path, relative):
                source = stated(os.path.dirname(relative)) or "."
                yield Item(name=stated(relative), source=source, reference=File(path))
            else:
                counter[OTHER_FILES] += 1


def walk(root: str) -> Iterator[tuple[str, str, Found]]:
    """What lies in a folder and its sub-folders: path, path below the root, and what it is.

    Depth first, sorted by name, and without recursion: how deep folders lie within one another is not ours to say.
    Of folders only those that cannot be looked into are told.
    """
    above: list[Iterator[tuple[str, str, Found]]] = [iter([(root, "", "folder")])]
    while above:
        entry = next(above[-1], None)
        if entry is None:
            above.pop()
        elif entry[2] == "folder":
            try:
                above.append(iter(_entries(entry[0], entry[1])))
            except OSError as problem:
                yield entry[0], entry[1], problem
        else:
            yield entry


def _entries(folder: str, relative: str) -> list[tuple[str, str, Found]]:
    """(path, path below the root, kind) of what lies in a folder, sorted by name."""
    with os.scandir(folder) as entries:
        found = sorted((entry.name, _kind(entry)) for entry in entries)
    return [(os.path.join(folder, name), f"{relative}/{name}" if relative else name, kind) for name, kind in found]


def _kind(entry: os.DirEntry[str]) -> Literal["folder", "link", "file"]:
    try:
        if entry.is_symlink():
            return "link"
        return "folder" if entry.is_dir(follow_symlinks=False) else "file"
    except OSError:
        return "file"


def _closed(relative: str, problem: OSError) -> Item:
    """Stands for a folder whose images cannot be listed."""
    unusable = Unusable(f"the folder cannot be looked into ({problem.strerror}); its images were not judged")
    return Item(name=stated(f"{relative}/" if relative else "./"), source=stated(relative) or ".", reference=unusable)


def _may_be_image(path: str, relative: str) -> bool:
    head = b"" if relative.lower().endswith(IMAGE_ENDINGS) else _head(path)
    return head is None or is_image(relative, head)


def _head(path: str) -> bytes | None:
    """The first bytes of a regular file, none of a pipe or a device; None where nobody can tell what is in it."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if not os.path.isfile(path):
            return b""
        descriptor = os.open(path, flags)
        try:
            return os.read(descriptor, HEAD)
        finally:
            os.close(descriptor)
    except OSError:
        return None
