"""What every vision tower is, and the digest that tells towers apart."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Protocol

import torch
from torch import Tensor, nn


class Tower(nn.Module):
    """A vision tower tapped at one layer: pixel values [N, 3, H, W] -> features [N, T, D], T = rows * columns.

    It is frozen and stays in eval mode, also inside a model that trains, since running statistics and dropout would
    change the features that the gate was trained on.

    Args:
        grid: (rows, columns) of the patch tokens, in row-major order.
        feature_width: D.
    """

    def __init__(self, *, grid: tuple[int, int], feature_width: int) -> None:
        super().__init__()
        self.grid = grid
        self.feature_width = feature_width

    @property
    def digest(self) -> str:
        """`sha256:…` of weights and configuration as they are now."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> Tower:
        """Stays in eval mode whatever `mode` says."""
        super().train(False)
        return self

    def freeze(self) -> Tower:
        """Eval mode, without gradients."""
        self.requires_grad_(False)
        return self.train(False)


class _Hash(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...


def weights_digest(module: nn.Module, extra: bytes, *, without: Collection[str] = ()) -> str:
    """`sha256:…` over names, dtypes, shapes and bytes of the state, sorted by name, after `extra`.

    Args:
        module: Whose state is hashed.
        extra: What else decides the features, such as the configuration.
        without: Names that do not count.
    """
    state = module.state_dict()
    hashed = hashlib.sha256()
    _update(hashed, extra)
    for name in sorted(state.keys() - set(without)):
        tensor = state[name].detach().cpu().contiguous()
        _update(hashed, f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        _update(hashed, _raw(tensor))
    return f"sha256:{hashed.hexdigest()}"


def _raw(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _update(hashed: _Hash, data: bytes | memoryview) -> None:
    hashed.update(len(data).to_bytes(8, "little"))
    hashed.update(data)
