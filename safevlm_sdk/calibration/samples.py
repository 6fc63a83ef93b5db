"""Judged images, and which of them are independent of each other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.calibration.duplicates import Look, duplicates, look_of
from safevlm_sdk.calibration.images import Labelled
from safevlm_sdk.errors import CalibrationError, SafeVLMError
from safevlm_sdk.strict import canonical_json, digest
from safevlm_sdk.taxonomy import SAFE

TEMPERATURE_SHARE = 0.25
FAILED_SHARE = 0.05
SHOWN = 3
_PART = 2**20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What a gate gives for one image, before any threshold.

    Attributes:
        type_logits: [V, labels], one row per view; the first is of the picture that goes on.
        level_logprobs: [V, 4].
        pixels: uint8 [H, W, 3], the first frame as it was judged.
        source_sha256: Of the file's bytes.
    """

    type_logits: NDArray[np.floating]
    level_logprobs: NDArray[np.floating]
    pixels: NDArray[np.uint8]
    source_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One judged image; where the gate failed on it, `error` names what failed and there are no views."""

    image: Labelled
    type_logits: NDArray[np.floating]
    level_logprobs: NDArray[np.floating]
    identity: str
    look: Look | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grouped:
    """Samples with the group of each.

    Attributes:
        samples: [N].
        groups: [N], a name that depends on the images of a group alone and not on their order.
        near_duplicates: Pairs of images that were taken for copies of each other, as many as join every group.
    """

    samples: tuple[Sample, ...]
    groups: tuple[str, ...]
    near_duplicates: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        """`sha256:…` of the images, their categories and groups; where they lie does not count."""
        rows = zip(self.samples, self.groups, strict=True)
        return digest(canonical_json(sorted([s.identity, s.image.category, group] for s, group in rows)))


def judge_images(images: Iterable[Labelled], judge: Callable[[Path], Seen]) -> tuple[Sample, ...]:
    """Judges every image; one that cannot be judged comes back as a failed sample.

    Raises:
        CalibrationError: More than 5 % of the images fail: whatever they are, they are no sample of a gate's life.
    """
    samples = tuple(_sample(image, judge) for image in images)
    failed = [sample for sample in samples if sample.error is not None]
    if len(failed) > FAILED_SHARE * len(samples):
        named = "; ".join(f"{one.image.name!r}: {one.error}" for one in failed[:SHOWN])
        raise CalibrationError(
            f"the gate fails on {len(failed)} of {len(samples)} images, and on more than {FAILED_SHARE:.0%} a "
            f"calibration would say little: {named}; mend or remove them"
        )
    return samples


def grouped(samples: Sequence[Sample]) -> Grouped:
    """Puts images into one group that share a row's group, their bytes, or their look.

    Raises:
        CalibrationError: One file is both harmless and risky.
    """
    parents = list(range(len(samples)))

    def find(one: int) -> int:
        while parents[one] != one:
            parents[one] = parents[parents[one]]
            one = parents[one]
        return one

    first: dict[tuple[str, str], int] = {}
    for number, sample in enumerate(samples):
        _check_labels(samples, first.get(("file", sample.identity)), sample)
        for key in (("file", sample.identity), ("group", sample.image.group)):
            if key[1] is not None:
                parents[find(number)] = find(first.setdefault((key[0], key[1]), number))
    looking = [(number, sample.look) for number, sample in enumerate(samples) if sample.look is not None]
    pairs = [(looking[i][0], looking[j][0]) for i, j in duplicates([look for _, look in looking])]
    for one, other in pairs:
        parents[find(one)] = find(other)
    smallest: dict[int, str] = {}
    for number, sample in enumerate(samples):
        root = find(number)
        smallest[root] = min(smallest.get(root, sample.identity), sample.identity)
    return Grouped(
        samples=tuple(samples),
        groups=tuple(smallest[find(number)] for number in range(len(samples))),
        near_duplicates=tuple((samples[i].image.name, samples[j].image.name) for i, j in pairs),
    )


def sets_temperature(group: str) -> bool:
    """Whether a group belongs to the quarter that sets a temperature; by its name alone."""
    drawn = int.from_bytes(hashlib.sha256(f"temperature:{group}".encode()).digest()[:4], "big")
    return drawn < TEMPERATURE_SHARE * 2**32


def _sample(image: Labelled, judge: Callable[[Path], Seen]) -> Sample:
    try:
        seen = judge(image.path)
    except SafeVLMError as problem:
        nothing = np.zeros((0, 0))
        return Sample(
            image=image,
            type_logits=nothing,
            level_logprobs=nothing,
            identity=_identity_of_failed(image),
            look=None,
            error=problem.code,
        )
    return Sample(
        image=image,
        type_logits=seen.type_logits,
        level_logprobs=seen.level_logprobs,
        identity=seen.source_sha256,
        look=look_of(seen.pixels),
        error=None,
    )


def _identity_of_failed(image: Labelled) -> str:
    """The hash of a file's bytes; where they cannot be read, of its category and place."""
    found = hashlib.sha256()
    try:
        if image.path.is_file():
            with image.path.open("rb") as file:
                while part := file.read(_PART):
                    found.update(part)
            return found.hexdigest()
    except OSError:
        found = hashlib.sha256()
    found.update(f"failed:{image.category}:{image.path.absolute()}".encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def _check_labels(samples: Sequence[Sample], same: int | None, sample: Sample) -> None:
    if same is None:
        return
    earlier = samples[same].image
    if (earlier.category == SAFE) != (sample.image.category == SAFE):
        raise CalibrationError(
            f"{earlier.name!r} and {sample.image.name!r} are the same file, and one is harmless and the other risky; "
            "remove the wrong one"
        )
