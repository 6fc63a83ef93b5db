"""One fixed square view of an image, as the vision tower of each family takes it."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import torch
from torch import Tensor

from safevlm_training.vlm.tiles import IMAGE_TILES
from safevlm_training.vlm.vision_parts import VisionParts

PACKED_SIDE = 448  # pixels of the view where a tower takes images of any size
NESTED = ("idefics2", "idefics3", "perception_lm", "smolvlm")  # pixels [N, tiles, 3, H, W]


def base_side(parts: VisionParts) -> int:
    """The side, in pixels, of the view unless another is asked for.

    The tower's own, or for towers that take any size a multiple of their blocks of patches, at most 448.
    """
    side = getattr(parts.encoder.config, "image_size", None)
    side = PACKED_SIDE if side is None else side if isinstance(side, int) else side[0]
    if not takes_any_size(parts):
        return int(side)
    return max(min(side, PACKED_SIDE) // block_side(parts), 1) * block_side(parts)


def probe_side(parts: VisionParts) -> int:
    """The side, in pixels, of a view that says how wide features are: few patches where the tower takes any size."""
    return 2 * block_side(parts) if takes_any_size(parts) else base_side(parts)


def takes_any_size(parts: VisionParts) -> bool:
    """Whether images of any size go through the tower."""
    packed = {"image_grid_thw", "image_position_ids", "spatial_shapes"}
    return bool(packed & parts.inputs) or _sees_sizes(parts)


def block_side(parts: VisionParts) -> int:
    """What the side of the view must be a multiple of, in pixels."""
    config, vision = parts.base.config, parts.encoder.config
    merges = [parts.merge]
    for place, name in (
        (config, "spatial_merge_size"),
        (config, "downsample_factor"),
        (vision, "spatial_merge_size"),
        (vision, "pooling_kernel_size"),
    ):
        if isinstance(getattr(place, name, None), int):
            merges.append(getattr(place, name))
    return parts.patch * max(merges)


def gate_batch(parts: VisionParts, pixels: Tensor) -> dict[str, Tensor]:
    """What the family's processor would give the tower for N square images [N, 3, H, W], each of one tile.

    A family that always cuts an image into several tiles sees the view in each of them.
    """
    count, _, height, width = pixels.shape
    if "image_grid_thw" in parts.inputs:
        grid = (1, height // parts.patch, width // parts.patch)
        return {"pixel_values": _blocks(parts, pixels), "image_grid_thw": _rows(grid, pixels)}
    if "image_position_ids" in parts.inputs:
        return {"pixel_values": _flat(pixels, parts.patch), "image_position_ids": _positions(pixels, parts.patch)}
    if "spatial_shapes" in parts.inputs:
        flat = _flat(pixels, parts.patch)
        shape = (height // parts.patch, width // parts.patch)
        mask = torch.ones(flat.shape[:2], dtype=torch.long, device=pixels.device)
        return {"pixel_values": flat, "spatial_shapes": _rows(shape, pixels), "pixel_attention_mask": mask} | {
            IMAGE_TILES: mask.new_ones(count)
        }
    if parts.family == "mllama":
        ones = torch.ones(count, 1, dtype=torch.long, device=pixels.device)
        tiles = parts.base.config.vision_config.max_num_tiles
        padded = torch.cat([pixels[:, None], pixels.new_zeros(count, tiles - 1, *pixels.shape[1:])], dim=1)
        mask = torch.cat([ones, ones.new_zeros(count, tiles - 1)], dim=1)
        return {"pixel_values": padded[:, None], "aspect_ratio_ids": ones, "aspect_ratio_mask": mask[:, None]}
    if _sees_sizes(parts):
        return {"pixel_values": pixels, "image_sizes": _rows((height, width), pixels)}
    if "image_sizes" in parts.inputs and hasattr(parts.base.config, "image_grid_pinpoints"):
        tiles = _tiles(parts, (height, width))
        return {
            "pixel_values": pixels[:, None].expand(-1, tiles, -1, -1, -1),
            "image_sizes": _rows((height, width), pixels),
        }
    tiles = torch.ones(count, dtype=torch.long, device=pixels.device)
    return {"pixel_values": pixels[:, None] if parts.family in NESTED else pixels, IMAGE_TILES: tiles}


def project_view(parts: VisionParts, pixels: Tensor) -> Tensor | None:
    """The image embeddings [N, T, D] of square pixels [N, 3, H, W], straight from tower to connector.

    For families whose own way gives them as a list, or knows no image of one tile; None for the others.
    """
    base, config = parts.base, parts.base.config
    if parts.family == "idefics2":
        hidden = parts.encoder(pixels).last_hidden_state
        resampled: Tensor = base.connector(hidden, attention_mask=hidden.new_ones(hidden.shape[:2], dtype=torch.bool))
        return resampled
    if parts.family in ("idefics3", "smolvlm"):
        embedded: Tensor = base.connector(parts.encoder(pixels).last_hidden_state)
        return embedded
    if _sees_sizes(parts) or not {"image_sizes", "vision_feature_layer"} <= parts.arguments:
        return None
    states = parts.encoder(pixels, output_hidden_states=True, return_dict=True).hidden_states
    layers = config.vision_feature_layer
    chosen = torch.cat([states[layer] for layer in ([layers] if isinstance(layers, int) else layers)], dim=-1)
    projected: Tensor = base.multi_modal_projector(
        chosen[:, 1:] if config.vision_feature_select_strategy == "default" else chosen
    )
    return projected


def _sees_sizes(parts: VisionParts) -> bool:
    return "image_sizes" in inspect.signature(parts.encoder.forward).parameters


def _tiles(parts: VisionParts, size: tuple[int, int]) -> int:
    module: Any = sys.modules[type(parts.base).__module__]
    config = parts.base.config
    return int(
        module.image_size_to_num_patches(list(size), config.image_grid_pinpoints, config.vision_config.image_size)
    )


def _rows(values: tuple[int, ...], pixels: Tensor) -> Tensor:
    return torch.tensor([values] * len(pixels), dtype=torch.long, device=pixels.device)


def _blocks(parts: VisionParts, pixels: Tensor) -> Tensor:
    """Patches [N * T, C * time * P * P], block by block of merged patches, each frame repeated in time."""
    patch, merge = parts.patch, parts.merge
    frames = getattr(parts.encoder.config, "temporal_patch_size", 1)
    rows, columns = pixels.shape[2] // patch, pixels.shape[3] // patch
    cut = pixels.reshape(len(pixels), 3, rows // merge, merge, patch, columns // merge, merge, patch)
    cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7)  # N, block row, block column, row, column, channel, patch
    cut = cut.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, frames, -1, -1)
    return cut.reshape(len(pixels) * rows * columns, -1)


def _flat(pixels: Tensor, patch: int) -> Tensor:
    """Patches [N, T, P * P * C], row by row, the channels of a pixel side by side."""
    rows, columns = pixels.shape[2] // patch, pixels.shape[3] // patch
    cut = pixels.reshape(len(pixels), 3, rows, patch, columns, patch).permute(0, 2, 4, 3, 5, 1)
    return cut.reshape(len(pixels), rows * columns, -1)


def _positions(pixels: Tensor, patch: int) -> Tensor:
    """(x, y) of each patch, [N, T, 2]."""
    rows, columns = pixels.shape[2] // patch, pixels.shape[3] // patch
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(1, -1, 2).expand(len(pixels), -1, -1).to(pixels.device)
