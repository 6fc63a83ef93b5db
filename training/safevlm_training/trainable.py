"""What is trained on cached features: the safety modules, and the tower's last blocks where they are tuned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from safevlm_training.modules import SafetyModules, SafetyOutput
from safevlm_training.recipe import TrainRecipe
from safevlm_training.towers.tower import Tower

# Larger tensors leave the processor's caches and get fresh memory each time. Blocks 8 to 10 of EfficientNet-Lite0 at
# 256 pixels, forward and backward of 64 rows: 1.6 s of one core in one piece, 0.95 s in pieces of 16.
PIECE = 16


class Trainable(nn.Module):
    """The tower's last n blocks with the safety modules behind them; what lies before them is no part of it.

    The blocks stay in eval mode: running statistics stay as they were published, and nothing is dropped, so that a
    tuned tower computes in training what it computes afterwards. Their weights are tuned, those of their
    normalisations included.

    Args:
        tower: Its last blocks are shared, not copied: training tunes this tower.
        safety: Projector, tokens and head.
        unfreeze_last: n; with 0, the safety modules alone.
    """

    def __init__(self, tower: Tower, safety: SafetyModules, unfreeze_last: int = 0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(tower.last_blocks(unfreeze_last))
        self.safety = safety
        self.unfreeze_last = unfreeze_last
        self._back = tower.back

    def forward(self, rows: Tensor) -> SafetyOutput:
        """Judges cached rows: features [N, T, D], or what enters the first tuned block, [N, T, C]."""
        if self.unfreeze_last:
            rows = torch.cat([self._back(piece, self.unfreeze_last) for piece in _pieces(rows)])[: len(rows)]
        output: SafetyOutput = self.safety(rows)
        return output

    def train(self, mode: bool = True) -> Trainable:
        """Leaves the blocks in eval mode whatever `mode` says."""
        super().train(mode)
        self.blocks.train(False)
        return self

    def optimizer(self, recipe: TrainRecipe) -> torch.optim.Optimizer:
        """AdamW over the safety modules, and over the blocks at a peak learning rate of their own (`peak`)."""
        groups = [{"params": list(self.safety.parameters()), "peak": recipe.lr}]
        if self.unfreeze_last:
            self.blocks.requires_grad_(True)
            groups.append({"params": list(self.blocks.parameters()), "peak": recipe.tower_lr})
        return torch.optim.AdamW(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)


def _pieces(rows: Tensor) -> Sequence[Tensor]:
    """Pieces of at most `PIECE` rows, and never of one; a single row comes twice.

    On a CPU, torch 2.13 computes wrong gradients at a `BatchNorm2d` in eval mode for a batch of one.
    """
    if len(rows) == 1:
        return (torch.cat([rows, rows]),)
    if len(rows) % PIECE != 1:
        return torch.split(rows, PIECE)
    return (*torch.split(rows[:-2], PIECE), rows[-2:])
