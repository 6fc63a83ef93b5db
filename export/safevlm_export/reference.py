"""What the checkpoint itself says: the unfolded model in PyTorch, float32, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from safevlm_export.graphs import Embeddings
from safevlm_sdk.manifest import GATE, SAFETY_HEAD
from safevlm_sdk.preprocess import preprocess
from safevlm_training.config import SafetyConfig
from safevlm_training.modules import SafetyOutput
from safevlm_training.risk_model import RiskModel

Array = NDArray[np.float32]
PADDING = 3
GARBAGE = 1e4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vectors:
    """Inputs of one graph with the reference's outputs, by name; row i is image i.

    Images of several sizes, for a graph of role "rgb_gate", are an array of objects.
    """

    inputs: dict[str, NDArray[np.generic]]
    expected: dict[str, Array]


# From rasters, uint8 [H, W, 3], to role to vectors: what the original says of them.
Reference: TypeAlias = Callable[[Sequence[NDArray[np.uint8]]], dict[str, Vectors]]


def reference_vectors(
    model: RiskModel, rasters: Sequence[NDArray[np.uint8]], embeddings: Embeddings | None = None
) -> dict[str, Vectors]:
    """Vectors of the gate and of the safety head, for rasters uint8 [H, W, 3].

    Args:
        model: The checkpoint.
        rasters: The images; the head sees the features of the same ones.
        embeddings: What else the gate gives.
    """
    pixels = np.stack([preprocess(raster, model.config.preprocessing) for raster in rasters])
    with torch.inference_mode():
        output, features = model(torch.from_numpy(pixels))
    gate = {**decided_arrays(output), "features": features.detach().numpy().copy()}
    if embeddings is not None:
        gate |= _embeddings(output, embeddings, pixels)
    return {
        GATE: Vectors(inputs={"pixel_values": pixels}, expected=gate),
        SAFETY_HEAD: _head(model, gate["features"]),
    }


def head_inputs(config: SafetyConfig, features: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Features [N, T, D] and their mask as a graph behind the tower may get them.

    Where the number of tokens may vary, each row is padded; in every second row the last quarter of the tokens is
    masked, too. What is masked holds garbage.
    """
    padding = PADDING if config.projector == "mlp" else 0
    rows, tokens, width = features.shape
    padded = np.full((rows, tokens + padding, width), GARBAGE, dtype=np.float32)
    padded[:, :tokens] = features
    mask = np.zeros(padded.shape[:2], dtype=np.bool_)
    mask[:, :tokens] = True
    mask[1::2, tokens - tokens // 4 :] = False
    padded[~mask] = GARBAGE
    return padded, mask


def _head(model: RiskModel, features: Array) -> Vectors:
    padded, mask = head_inputs(model.config, features)
    with torch.inference_mode():
        output = model.safety(torch.from_numpy(padded), torch.from_numpy(mask))
    return Vectors(inputs={"features": padded, "mask": mask}, expected=decided_arrays(output))


def _embeddings(output: SafetyOutput, embeddings: Embeddings, pixels: Array) -> dict[str, Array]:
    found = {}
    if output.safety_embeddings is not None:
        found["safety_embeddings"] = output.safety_embeddings.detach().numpy().copy()
    if embeddings.tower is not None:
        with torch.inference_mode():
            seen = embeddings.tower(torch.from_numpy(pixels))[1:]
        found |= {spec.name: one.numpy().copy() for spec, one in zip(embeddings.outputs, seen, strict=True)}
    return found


def decided_arrays(output: SafetyOutput) -> dict[str, Array]:
    """What every graph that decides gives."""
    return {
        "type_logits": output.type_logits.detach().numpy().copy(),
        "level_logprobs": output.level_logprobs.detach().numpy().copy(),
        "attention": output.attention.detach().numpy().copy(),
    }
