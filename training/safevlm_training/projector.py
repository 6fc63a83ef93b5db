"""The safety projector: from the tower's patch features to the width of the safety head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from safevlm_training.config import SafetyConfig

STAGE_DEPTH = 3
SQUEEZE_RATIO = 0.25
EXTRA_WIDTH = 64


class MlpProjector(nn.Module):
    """Per patch: normalise, then two linear layers; [N, T, Dv] -> [N, T, Ds].

    The normalisation makes it indifferent to the scale of a tower's hidden states, which differs widely.
    """

    def __init__(self, feature_width: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(feature_width)
        self.enter = nn.Linear(feature_width, width)
        self.act = nn.GELU()
        self.leave = nn.Linear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """Projects [N, T, Dv]."""
        projected: Tensor = self.leave(self.act(self.enter(self.norm(features))))
        return projected


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of [N, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalises [N, C, H, W]."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SqueezeExcitation(nn.Module):
    """Weighs channels by what the whole image holds."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, squeezed)
        self.act = nn.SiLU()
        self.excite = nn.Linear(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Scales the channels of [N, C, H, W]."""
        weights = torch.sigmoid(self.excite(self.act(self.squeeze(x.mean(dim=(2, 3))))))
        return x * weights[:, :, None, None]


class Bottleneck(nn.Module):
    """1x1 -> 3x3 depthwise -> squeeze-excitation -> 1x1, added to its input, as in RegNet with groups of one."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.norm1 = ChannelNorm(channels, eps=1e-6)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm2 = ChannelNorm(channels, eps=1e-6)
        self.gate = SqueezeExcitation(channels, round(channels_in * SQUEEZE_RATIO))
        self.conv3 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm3 = ChannelNorm(channels, eps=1e-6)
        self.act = nn.SiLU()
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, bias=False), ChannelNorm(channels, eps=1e-6)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] with the new number of channels."""
        y = self.act(self.norm1(self.conv1(x)))
        y = self.gate(self.act(self.norm2(self.conv2(y))))
        y = self.norm3(self.conv3(y)) + self.shortcut(x)
        activated: Tensor = self.act(y)
        return activated


class CAbstractor(nn.Module):
    """The projector of arXiv 2405.13581 (after Honeybee): convolutions around a pooling to the grid, then an MLP.

    [N, T, Dv] -> [N, T, Ds] with T = rows * columns. The paper keeps the tower's grid, so the pooling is the identity
    there.
    """

    def __init__(self, feature_width: int, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        hidden = feature_width + EXTRA_WIDTH
        self.grid = grid
        self.stage1 = _stage(feature_width, hidden)
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.stage2 = _stage(hidden, hidden)
        self.readout = nn.Sequential(nn.Linear(hidden, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """Projects [N, rows * columns, Dv]."""
        image = torch.unflatten(features.transpose(1, 2), 2, self.grid)
        image = self.stage2(self.pool(self.stage1(image)))
        projected: Tensor = self.readout(image.flatten(2).transpose(1, 2))
        return projected


def _stage(channels_in: int, channels: int) -> nn.Sequential:
    widths = [channels_in] + [channels] * (STAGE_DEPTH - 1)
    return nn.Sequential(*(Bottleneck(width, channels) for width in widths))


def build_projector(config: SafetyConfig) -> nn.Module:
    """The projector that the configuration asks for: features [N, T, Dv] -> [N, T, Ds]."""
    if config.projector == "mlp":
        return MlpProjector(config.feature_width, config.width)
    return CAbstractor(config.feature_width, config.width, config.grid)
