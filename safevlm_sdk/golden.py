"""Golden inputs and outputs of a bundle, by which a backend proves itself when it loads."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safevlm_sdk.errors import ManifestError
from safevlm_sdk.manifest import MAX_GOLDEN


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Golden:
    """Inputs with the outputs that each graph must reproduce.

    Attributes:
        images: Canonical rasters, uint8 [H, W, 3] each, for graphs of role "gate".
        features: float32 [M, T, D], for graphs of role "safety_head".
        mask: bool [M, T], True where a token counts.
        expected: Graph id to output name to float32 values; row i belongs to image i or features i.
    """

    images: tuple[NDArray[np.uint8], ...]
    features: NDArray[np.float32]
    mask: NDArray[np.bool_]
    expected: Mapping[str, Mapping[str, NDArray[np.float32]]]


def golden_bytes(golden: Golden) -> bytes:
    """The bytes of `golden.npz`; equal values give equal bytes."""
    arrays: dict[str, NDArray[np.generic]] = {
        f"image:{index:02d}": image for index, image in enumerate(golden.images)
    }
    arrays["features"], arrays["mask"] = golden.features, golden.mask
    for graph, outputs in golden.expected.items():
        arrays.update({f"expected:{graph}:{name}": values for name, values in outputs.items()})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            np.save(member, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def parse_golden(data: bytes, *, where: str = "golden.npz") -> Golden:
    """Reads golden vectors; nothing in the file can run code.

    Raises:
        ManifestError: Not a golden file.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as problem:
        raise ManifestError(f"{where}: not a file of golden vectors ({problem})") from problem
    images = tuple(arrays[name] for name in sorted(arrays) if name.startswith("image:"))
    expected: dict[str, dict[str, NDArray[np.float32]]] = {}
    for name, values in arrays.items():
        if name.startswith("expected:"):
            _, graph, output = name.split(":", 2)
            expected.setdefault(graph, {})[output] = values
    if not 1 <= len(images) <= MAX_GOLDEN or "features" not in arrays or "mask" not in arrays:
        raise ManifestError(f"{where}: needs 1 to {MAX_GOLDEN} images, features and their mask")
    for image in images:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ManifestError(f"{where}: an image is {image.dtype} {image.shape}; expected uint8 [H, W, 3]")
    return Golden(images=images, features=arrays["features"], mask=arrays["mask"], expected=expected)
