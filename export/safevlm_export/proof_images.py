"""The images on which exported graphs are proven: generated ones, and the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safevlm_sdk.errors import ExportError, ImageError
from safevlm_sdk.raster import decode
from safevlm_training.documents import examples

MAX_IMAGES = 256
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif"})
GENERATED = "generated documents and scenes, and synthetic patterns"
SYNTHETIC_SIZES = ((224, 224), (640, 480), (97, 201), (300, 40), (32, 32))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProofImage:
    """One canonical raster, uint8 [H, W, 3], with a name for reports."""

    name: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProofImages:
    """Images that are decoded each time they are asked for, and what to call them.

    Attributes:
        source: For the manifest; holds no path.
        load: Gives the images, always the same.
        generated: Gives those that are nobody's: only they may become a part of the bundle.
        given: How many of the images are the user's.
    """

    source: str
    load: Callable[[], Iterator[ProofImage]]
    generated: Callable[[], Iterator[ProofImage]]
    given: int = 0


def proof_images(folder: Path | None, *, max_side: int) -> ProofImages:
    """Images for a proof, decoded as the runtime does.

    Args:
        folder: Searched for images, also below; None for the generated ones alone.
        max_side: The bundle's `raster_max_side`.

    Raises:
        ExportError: The folder holds no image; while loading: an image cannot be decoded.
    """

    def generated() -> Iterator[ProofImage]:
        return _generated(max_side)

    if folder is None:
        return ProofImages(source=GENERATED, load=generated, generated=generated)
    if not folder.is_dir():
        raise ExportError(f"{folder}: is no folder; give one with images such as the gate will judge")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise ExportError(f"{folder}: holds no image ({', '.join(sorted(SUFFIXES))}); add images of your application")
    chosen = found[:: -(-len(found) // MAX_IMAGES)]

    def load() -> Iterator[ProofImage]:
        for path in chosen:
            name = path.relative_to(folder).as_posix()
            try:
                raster = decode(path, max_side=max_side)
            except ImageError as problem:
                raise ExportError(f"{folder}: {name}: {problem}; remove it or give another folder") from problem
            yield ProofImage(name=name, pixels=raster.frames[0].pixels)
        yield from generated()

    source = f"{len(chosen)} of {len(found)} given images; {GENERATED}"
    return ProofImages(source=source, load=load, generated=generated, given=len(chosen))


def synthetic_images() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Flat, smooth, striped and noisy pictures of several shapes, always the same."""
    generator = np.random.Generator(np.random.PCG64(2405))
    for height, width in SYNTHETIC_SIZES:
        rows, columns = np.mgrid[0:height, 0:width]
        colour = generator.integers(0, 256, 3)
        waves = np.sin(rows[:, :, None] / (3 + colour % 29)) * np.cos(columns[:, :, None] / (5 + colour % 17))
        kinds = {
            "flat": np.broadcast_to(colour, (height, width, 3)),
            "ramp": colour * (rows + columns)[:, :, None] / (height + width),
            "stripes": np.where((rows // 7 % 2 == 0)[:, :, None], colour, 255 - colour),
            "waves": 127.5 + 127.5 * waves,
            "noise": generator.integers(0, 256, (height, width, 3)),
        }
        for kind, values in kinds.items():
            yield f"synthetic {kind} {height}x{width}", np.ascontiguousarray(values, dtype=np.uint8)


def _generated(max_side: int) -> Iterator[ProofImage]:
    for name, sample in examples():
        yield ProofImage(name=f"example {name}", pixels=_capped(np.asarray(sample.image), max_side))
    for name, pixels in synthetic_images():
        yield ProofImage(name=name, pixels=_capped(pixels, max_side))


def _capped(pixels: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    return decode(Image.fromarray(pixels), max_side=max_side).frames[0].pixels
