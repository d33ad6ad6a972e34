"""Super-resolution with window attention: an image twice as large, and no classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SuperResolution(nn.Module):
    """SwinIR: groups of window attention and a convolution, each with a skip; pixels are shuffled to twice the size.

    Args:
        groups: Blocks [n, rows, columns, channels] -> the same, of every group.
        dim: Their channels.
    """

    def __init__(self, groups: Sequence[Sequence[nn.Module]], dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.45, 0.44, 0.40]).reshape(1, 3, 1, 1))
        self.shallow = nn.Conv2d(3, dim, 3, padding=1)
        self.embed = nn.LayerNorm(dim)
        self.groups = nn.ModuleList(_Residual(blocks, dim) for blocks in groups)
        self.norm = nn.LayerNorm(dim)
        self.deep = nn.Conv2d(dim, dim, 3, padding=1)
        self.up = nn.Sequential(
            nn.Conv2d(dim, 8, 3, padding=1),
            nn.LeakyReLU(),
            nn.Conv2d(8, 32, 3, padding=1),
            nn.PixelShuffle(2),
            nn.Conv2d(8, 3, 3, padding=1),
        )
        for module in self.modules():  # torch's own weights shrink what passes: the skips alone would make the image
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.shallow(x - self.mean)
        tokens = self.embed(shallow.permute(0, 2, 3, 1))
        for group in self.groups:
            tokens = group(tokens)
        deep = self.deep(self.norm(tokens).permute(0, 3, 1, 2))
        return self.up(shallow + deep) + self.mean


class _Residual(nn.Module):
    def __init__(self, blocks: Sequence[nn.Module], dim: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.mix = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(self.blocks(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
