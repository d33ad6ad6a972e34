"""What stands behind backbones for other tasks than classification: heads, decoders, pyramids."""

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
            nn.ConvTranspose2d(channels, 16, 4, 2, 1),
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
        self.fuse = nn.Conv2d(dim * len(channels), dim, 1)
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
        return self.classify(torch.relu(self.fuse(torch.cat(joined, dim=1))))


class DetectionDecoder(nn.Module):
    """DETR: patches, an encoder, a decoder whose queries start from the first tokens, classes and boxes."""

    def __init__(self, dim: int, heads: int, queries: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 8, 8)
        self.position = nn.Parameter(torch.randn(1, 16, dim) * 0.5)
        self.encoder = nn.TransformerEncoderLayer(dim, heads, 2 * dim, batch_first=True, activation="gelu")
        self.queries = nn.Parameter(torch.randn(1, queries, dim) * 0.5)
        self.decoder = nn.TransformerDecoderLayer(dim, heads, 2 * dim, batch_first=True, activation="gelu")
        self.classes = nn.Linear(dim, 6)
        self.boxes = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.patches(x).flatten(2).transpose(1, 2) + self.position
        memory = self.encoder(memory)
        found = self.decoder(self.queries + memory[:, : self.queries.shape[1]], memory)
        return self.classes(found), self.boxes(found).sigmoid()


class FeaturePyramid(nn.Module):
    """Swin with a feature pyramid, and the maps of a region proposal head on every level."""

    def __init__(self, backbone: Any, channels: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.lateral = nn.ModuleList(nn.Conv2d(count, dim, 1) for count in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1) for _ in channels)
        self.objectness = nn.Conv2d(dim, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.backbone.patch_embed(x)
        levels = []
        for stage, lateral in zip(self.backbone.layers, self.lateral, strict=True):
            x = stage(x)
            levels.append(lateral(x.permute(0, 3, 1, 2)))
        top = levels[-1]
        found = [top]
        for level in reversed(levels[:-1]):
            top = level + functional.interpolate(top, size=level.shape[2:], mode="nearest")
            found.insert(0, top)
        return tuple(self.objectness(smooth(level)) for smooth, level in zip(self.smooth, found, strict=True))
