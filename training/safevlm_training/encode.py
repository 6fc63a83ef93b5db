"""From image files to cached features, through the same decoding and preprocessing as the runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from safevlm_sdk.errors import DataError, ImageEmpty, ImageError, ImageFormat
from safevlm_sdk.preprocess import preprocess
from safevlm_sdk.raster import DEFAULT_LIMITS, decode, read_source
from safevlm_sdk.strict import canonical_json, digest
from safevlm_training.cache import FeatureCache
from safevlm_training.config import SafetyConfig
from safevlm_training.data import BadRow, Example
from safevlm_training.progress import Progress
from safevlm_training.splits import Item
from safevlm_training.towers.tower import Tower

CACHE_FORMAT = 1
COMMIT = 16
HEAD = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """A tower and everything before it."""

    tower: Tower
    config: SafetyConfig

    def digest(self, dtype: str) -> str:
        """`sha256:…` of whatever decides a cached row."""
        config = self.config
        parts = {
            "format": CACHE_FORMAT,
            "tower": config.tower.digest,
            "tap": config.tower.tap,
            "preprocessing": config.preprocessing,
            "raster_max_side": config.raster_max_side,
            "grid": config.grid,
            "feature_width": config.feature_width,
            "dtype": dtype,
        }
        return digest(canonical_json(parts))

    def open_cache(self, root: Path, dtype: str) -> FeatureCache:
        """The cache of this encoder below `root`."""
        rows, columns = self.config.grid
        name = self.digest(dtype).removeprefix("sha256:")[:16]
        return FeatureCache(root / name, shape=(rows * columns, self.config.feature_width), dtype=dtype)

    def encode(self, path: Path, image: str) -> NDArray[np.float32]:
        """Features [T, D] of one file.

        One image at a time: the row then depends on its image alone, and not on which others were in a batch.

        Args:
            path: Of the file.
            image: sha256 that its bytes had when the data set was read.

        Raises:
            ImageError: It cannot be decoded.
            DataError: It has changed since.
        """
        data = read_source(path, DEFAULT_LIMITS)
        if not isinstance(data, bytes) or hashlib.sha256(data).hexdigest() != image:
            raise DataError(f"{path}: changed while it was being read; leave the images alone and run again")
        raster = decode(data, max_side=self.config.raster_max_side)
        pixels = preprocess(raster.frames[0].pixels, self.config.preprocessing)
        with torch.inference_mode():
            features: torch.Tensor = self.tower(torch.from_numpy(pixels)[None])
        return features[0].float().numpy()


def hash_images(
    cache: FeatureCache, examples: Sequence[Example], progress: Progress
) -> tuple[tuple[Example, ...], tuple[str, ...], tuple[BadRow, ...]]:
    """The examples whose file can be read and begins as an image, the sha256 of each, and the others as bad rows."""
    kept, images, bad = [], [], []
    for example in progress.over(examples, "hash images"):
        try:
            image = cache.digest_of(example.path.absolute())
            reason = None if image in cache else _wrong_format(example.path)
        except OSError as problem:
            reason = f"the image cannot be read ({problem.strerror})"
        if reason is None:
            kept.append(example)
            images.append(image)
        else:
            bad.append(BadRow(where=example.where, reason=reason))
    return tuple(kept), tuple(images), tuple(bad)


def _wrong_format(path: Path) -> str | None:
    """Why the first bytes of a file are no image's; None when they are."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    try:
        decode(head)
    except (ImageEmpty, ImageFormat) as problem:
        return _reason(problem)
    except ImageError:  # so short a piece of an image is always damaged
        return None
    return None


def _reason(problem: ImageError) -> str:
    return f"{problem.code}: {problem}"


def fill_cache(
    cache: FeatureCache, encoder: Encoder, items: Sequence[Item], progress: Progress
) -> tuple[BadRow, ...]:
    """Computes what the cache lacks, and returns the rows whose image cannot be decoded.

    Raises:
        DataError: An image changed meanwhile.
        TrainingError: Features are not finite.
    """
    missing = {item.image: item.example.path for item in items if item.image not in cache}
    reasons: dict[str, str] = {}
    pending: list[tuple[str, NDArray[np.floating]]] = []
    for image, path in progress.over(list(missing.items()), "compute features"):
        try:
            pending.append((image, encoder.encode(path, image)))
        except ImageError as problem:
            reasons[image] = _reason(problem)
        if len(pending) == COMMIT:
            cache.add(pending)
            pending = []
    cache.add(pending)
    return tuple(
        BadRow(where=item.example.where, reason=reasons[item.image]) for item in items if item.image in reasons
    )
