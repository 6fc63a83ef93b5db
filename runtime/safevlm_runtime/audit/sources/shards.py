"""Tar archives that are not compressed, as WebDataset's shards."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from safevlm_runtime.audit.item import Item, Slice, Unusable, stated
from safevlm_runtime.audit.sources.source import HEAD, OTHER_FILES, Described, is_image


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """The images in archives, in the order in which they lie there; nothing is unpacked.

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
            shard = stated(name)
            try:
                with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as tar:
                    # A member is forgotten once it was met, for an archive may hold any number of them.
                    while (member := tar.next()) is not None:
                        tar.members.clear()  # type: ignore[attr-defined]
                        file.seek(member.offset_data)
                        if member.isreg() and not member.issparse() and is_image(member.name, file.read(HEAD)):
                            part = Slice(path, member.offset_data, member.size)
                            yield Item(name=f"{shard}#{stated(member.name)}", source=shard, reference=part)
                        elif not member.isdir():
                            counter[OTHER_FILES] += 1
            except (OSError, tarfile.TarError, ValueError) as problem:
                broken = Unusable(
                    f"the archive cannot be read from here on ({type(problem).__name__}); what follows was not judged"
                )
                yield Item(name=f"{shard}#", source=shard, reference=broken)
