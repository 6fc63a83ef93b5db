"""Choosing the golden inputs: few, small, of both kinds, and far from every threshold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safevlm_export.proof_images import ProofImage
from safevlm_export.reference import Reference, Vectors
from safevlm_sdk.decision import Rule, decide
from safevlm_sdk.manifest import DECISION_OUTPUTS, GATE, IMAGE_ROLES, SAFETY_HEAD
from safevlm_sdk.margins import NEAR, decision_margin
from safevlm_sdk.policy import Policy
from safevlm_sdk.taxonomy import SAFE

IMAGES = 8
MAX_SIDE = 256
CANDIDATES = 48
# The features themselves are left out: they are by far the largest, and the logits depend on all of them.
COMPARED = ("type_logits", "level_logprobs", "attention", "safety_embeddings")


def choose_golden(
    reference: Reference, images: Iterable[ProofImage], rule: Rule, policy: Policy
) -> tuple[tuple[NDArray[np.uint8], ...], dict[str, Vectors]]:
    """Golden images, and by role the golden inputs with what the original says of them.

    Args:
        reference: What the original says.
        images: Candidates; the first 48 are looked at, shrunk to 256 pixels.
        rule: The bundle's side of a decision.
        policy: The bundle's policy.
    """
    small = [_shrunk(image.pixels) for image, _ in zip(images, range(CANDIDATES), strict=False)]
    candidates = _decision_outputs(reference, small)
    rasters = [small[row] for row in _spread(candidates, rule, policy)]
    # Twice each: the reference gives graphs of features all of an image's tokens first, and then some of them.
    vectors = reference([raster for raster in rasters for _ in range(2)])
    every = list(range(0, 2 * len(rasters), 2))
    best = _best_rows(vectors[SAFETY_HEAD], rule, policy) if SAFETY_HEAD in vectors else every
    chosen = {role: _rows(found, every if role in IMAGE_ROLES else best) for role, found in vectors.items()}
    return tuple(rasters), chosen


def _rows(vectors: Vectors, rows: Sequence[int]) -> Vectors:
    """Some rows of the inputs, and of those outputs that are compared."""
    compared = [name for name in vectors.expected if name in COMPARED] or list(vectors.expected)
    return Vectors(
        inputs={name: values[rows] for name, values in vectors.inputs.items()},
        expected={name: vectors.expected[name][rows] for name in compared},
    )


def _decision_outputs(reference: Reference, rasters: Sequence[NDArray[np.uint8]]) -> Vectors:
    starts = range(0, len(rasters), IMAGES)
    found = [reference(rasters[at : at + IMAGES])[GATE].expected for at in starts]
    return Vectors(
        inputs={}, expected={name: np.concatenate([one[name] for one in found]) for name in DECISION_OUTPUTS}
    )


def _shrunk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = Image.fromarray(pixels)
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return np.array(image)


def _spread(candidates: Vectors, rule: Rule, policy: Policy) -> list[int]:
    """Rows of up to eight candidates, flagged and not by turns, the clearest first; at least one."""
    margins = _margins(candidates, rule, policy)
    order = np.argsort(-np.asarray(margins), kind="stable").tolist()
    clear = [row for row in order if margins[row] >= NEAR] or order[:1]
    safe = [row for row in clear if _is_safe(candidates, row, rule, policy)]
    flagged = [row for row in clear if row not in safe]
    kept = IMAGES // 2
    chosen = [*flagged[:kept], *safe[:kept], *flagged[kept:], *safe[kept:]][:IMAGES]
    return sorted(chosen)


def _best_rows(head: Vectors, rule: Rule, policy: Policy) -> list[int]:
    """The clearest row with all tokens, and the clearest with masked ones: of the even and of the odd rows."""
    margins: Sequence[float] = _margins(head, rule, policy)
    return [max(range(start, len(margins), 2), key=lambda row: margins[row]) for start in (0, 1)]


def _margins(vectors: Vectors, rule: Rule, policy: Policy) -> list[float]:
    pairs = zip(vectors.expected["type_logits"], vectors.expected["level_logprobs"], strict=True)
    return [decision_margin(types, levels, rule, policy) for types, levels in pairs]


def _is_safe(vectors: Vectors, row: int, rule: Rule, policy: Policy) -> bool:
    types, levels = vectors.expected["type_logits"][row], vectors.expected["level_logprobs"][row]
    return decide(types, levels, rule, policy).category == SAFE
