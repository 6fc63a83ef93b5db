"""The images on which ranges are measured and layers are chosen: some of the proof's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safevlm_export.proof_images import ProofImages
from safevlm_export.proving import in_batches
from safevlm_export.reference import Reference, Vectors

GIVEN = 48


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalibrationBatch:
    """Some images: their names, and by role what the original says of them."""

    names: list[str]
    vectors: Mapping[str, Vectors]


def calibration_batches(reference: Reference, images: ProofImages) -> Sequence[CalibrationBatch]:
    """About 50 of the proof's images, spread evenly over all of them.

    Raises:
        ExportError: An image cannot be decoded.
    """
    step = 1 + images.given // GIVEN
    chosen = (image for number, image in enumerate(images.load()) if number % step == 0)
    return [
        CalibrationBatch(names=[image.name for image in batch], vectors=reference([image.pixels for image in batch]))
        for batch in in_batches(chosen)
    ]
