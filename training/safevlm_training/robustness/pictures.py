"""Which images are measured: chosen by seed, decoded as the runtime does."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from safevlm_sdk.errors import DataError, ImageError
from safevlm_sdk.raster import decode
from safevlm_sdk.taxonomy import SAFE
from safevlm_training.data import BadRow, Example
from safevlm_training.robustness.effects import Pixels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """One labelled image, decoded: uint8 [H, W, 3]."""

    example: Example
    pixels: Pixels

    @property
    def risky(self) -> bool:
        """Its label is a risk."""
        return self.example.category != SAFE


def check_labels(examples: Iterable[Example], labels: Collection[str]) -> None:
    """Refuses images whose category the gate does not know: allowing them would be no mistake of its.

    Raises:
        DataError: Naming the first of them.
    """
    for example in examples:
        if example.category not in labels:
            raise DataError(
                f"{example.where}: category {example.category!r} is none of {', '.join(labels)}, which the gate "
                "covers; leave such images out"
            )


def shuffled(examples: Sequence[Example], *, risky: bool, seed: int) -> tuple[Example, ...]:
    """The risky or the safe examples in an order that depends on the seed, their sources and file names alone.

    Raises:
        DataError: There is none.
    """
    kind = [example for example in examples if (example.category != SAFE) == risky]
    if not kind:
        wanted = "risky" if risky else "safe"
        raise DataError(f"no {wanted} image among {len(examples)}; robustness is measured on both kinds, add some")

    def key(example: Example) -> bytes:
        return hashlib.sha256(f"{seed}:{example.source}:{example.path.name}".encode("utf-8", "replace")).digest()

    return tuple(sorted(kind, key=key))


def groups_of(examples: Iterable[Example]) -> int:
    """How many groups the examples come from; one without a group stands for itself."""
    return len({("file", str(e.path)) if e.group is None else ("group", e.group) for e in examples})


class Reader:
    """Decodes images and remembers those that cannot be decoded.

    Args:
        max_side: Longer side of the rasters, in pixels.
    """

    def __init__(self, max_side: int) -> None:
        self._max_side = max_side
        self._bad: dict[str, str] = {}

    def read(self, examples: Iterable[Example]) -> Iterator[Picture]:
        """The first frame of each image that can be decoded."""
        for example in examples:
            try:
                raster = decode(example.path, max_side=self._max_side)
            except ImageError as problem:
                self._bad[example.where] = f"{problem.code}: {problem}"
            else:
                yield Picture(example=example, pixels=raster.frames[0].pixels)

    @property
    def skipped(self) -> tuple[BadRow, ...]:
        """What could not be decoded so far."""
        return tuple(BadRow(where=where, reason=reason) for where, reason in self._bad.items())
