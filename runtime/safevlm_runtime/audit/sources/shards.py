"""Tar archives that are not compressed, as WebDataset's shards."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from safevlm_runtime.audit.item import Item, Reference, Slice, Unusable, stated
from safevlm_runtime.audit.sources.source import ARCHIVE_LINKS, HEAD, OTHER_FILES, Described, is_image


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """The images in archives, in the order in which they lie there; nothing is unpacked.

    Links within an archive are passed over: what they lead to is judged where it lies. The names of the images in one
    archive are held at once.

    Attributes:
        path: As it was given: an archive, a folder of them, or a pattern with braces.
        shards: (name, path) of each archive.
    """

    path: str
    shards: tuple[tuple[str, str], ...]

    def describe(self) -> Described:
        """See `Source.describe`."""
        return Described(kind="tar", path=self.path)

    def items(self, passed_over: Counter[str] | None = None) -> Iterator[Item]:
        """See `Source.items`."""
        counter: Counter[str] = Counter() if passed_over is None else passed_over
        for name, path in self.shards:
            shard, names = stated(name), {""}  # the empty name is of what cannot be read
            try:
                with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as tar:
                    for member in _members(tar, file):
                        file.seek(member.offset_data)
                        if member.isreg() and is_image(member.name, file.read(HEAD)):
                            image = _unique(stated(member.name), member.offset, names)
                            yield Item(name=f"{shard}#{image}", source=shard, reference=_reference(path, member))
                        elif member.islnk() or member.issym():
                            counter[ARCHIVE_LINKS] += 1
                        elif not member.isdir():
                            counter[OTHER_FILES] += 1
            except Exception as problem:  # an archive is as broken as it likes, and tarfile raises what comes of it
                broken = Unusable(
                    f"the archive cannot be read from here on ({type(problem).__name__}); what follows was not judged"
                )
                yield Item(name=f"{shard}#", source=shard, reference=broken)


def _members(tar: tarfile.TarFile, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The members in the order in which they lie there; each is forgotten, for there may be any number of them.

    Raises:
        tarfile.ReadError: A size is negative or leads back to a member that was there already, or what should be a
            header is none.
    """
    last = -1
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]
        if member.size < 0 or member.offset <= last:
            raise tarfile.ReadError("the archive leads backwards")
        last = member.offset
        yield member
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile takes it for the end
        raise tarfile.ReadError("there is more, but no header")


def _unique(name: str, offset: int, names: set[str]) -> str:
    """The name of a member; one that was there already gets the place in the archive, too."""
    while name in names:
        name = f"{name}@{offset}"
    names.add(name)
    return name


def _reference(path: str, member: tarfile.TarInfo) -> Reference:
    if member.issparse():
        return Unusable("the archive stores the image with holes left out; pack it without --sparse")
    return Slice(path, member.offset_data, member.size)
