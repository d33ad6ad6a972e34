"""Heads behind backbones: two of a distilled model, maps of joints, maps of classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class TwoHeads(nn.Module):
    """A distilled model whose heads are two outputs."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.model.forward_features(x)
        return self.model.head(tokens[:, 0]), self.model.head_dist(tokens[:, 1])


class HeatMaps(nn.Module):
    """ViTPose: a plain backbone, two transposed convolutions, one map per joint."""

    def __init__(self, backbone: nn.Module, channels: int, grid: int, joints: int = 5) -> None:
        super().__init__()
        self.backbone = backbone
        self.grid = grid
        self.up = nn.Sequential(
            nn.ConvTranspose2d(channels, 16, 4, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 16, 4, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, joints, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.backbone(x)
        maps = tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], self.grid, self.grid)
        return self.up(maps)


class MixedSegmentation(nn.Module):
    """SegFormer: a linear layer per level, all brought to one size, joined, one map per class."""

    def __init__(self, backbone: Any, channels: tuple[int, ...], dim: int = 16, classes: int = 4) -> None:
        super().__init__()
        self.backbone = backbone
        self.project = nn.ModuleList(nn.Linear(count, dim) for count in channels)
        self.fuse = nn.Sequential(nn.Conv2d(dim * len(channels), dim, 1, bias=False), nn.BatchNorm2d(dim), nn.ReLU())
        self.classify = nn.Conv2d(dim, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.backbone.patch_embed(x)
        levels = []
        for stage, project in zip(self.backbone.stages, self.project, strict=True):
            x = stage(x)
            tokens = project(x.flatten(2).transpose(1, 2)).transpose(1, 2)
            levels.append(tokens.reshape(x.shape[0], -1, x.shape[2], x.shape[3]))
        size = levels[0].shape[2:]
        joined = [functional.interpolate(level, size=size, mode="bilinear") for level in levels]
        return self.classify(self.fuse(torch.cat(joined, dim=1)))
