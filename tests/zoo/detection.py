"""Detectors without what selects boxes: Mask R-CNN behind Swin, and DETR."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

WINDOW = 4  # rows and columns of a region


class MaskDetector(nn.Module):
    """Mask R-CNN: Swin, a feature pyramid, region proposals on every level, and a box and a mask head.

    Selecting proposals depends on the data and stays outside of exported graphs; regions are the windows of the finest
    level instead.

    Args:
        backbone: From an image to maps [n, rows, columns, channels], the finest first.
        channels: Channels of the maps.
        dim: Channels of the pyramid.
    """

    def __init__(self, backbone: nn.Module, channels: tuple[int, ...], dim: int, classes: int = 5) -> None:
        super().__init__()
        self.backbone = backbone
        self.norms = nn.ModuleList(nn.LayerNorm(count) for count in channels)
        self.lateral = nn.ModuleList(nn.Conv2d(count, dim, 1) for count in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1) for _ in channels)
        self.proposals = nn.Conv2d(dim, dim, 3, padding=1)
        self.objectness = nn.Conv2d(dim, 3, 1)
        self.deltas = nn.Conv2d(dim, 12, 1)
        self.box = nn.Sequential(nn.Linear(dim * WINDOW**2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.classify = nn.Linear(32, classes)
        self.refine = nn.Linear(32, 4 * (classes - 1))
        self.mask = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(dim, dim, 2, 2),
            nn.ReLU(),
            nn.Conv2d(dim, classes - 1, 1),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = [norm(level) for norm, level in zip(self.norms, self.backbone(x), strict=True)]
        sides = [lateral(level.permute(0, 3, 1, 2)) for lateral, level in zip(self.lateral, maps, strict=True)]
        top = sides[-1]
        levels = [top]
        for side in reversed(sides[:-1]):
            top = side + functional.interpolate(top, size=side.shape[2:], mode="nearest")
            levels.insert(0, top)
        levels = [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]
        levels.append(functional.max_pool2d(levels[-1], 1, 2))
        found: list[Tensor] = []
        for level in levels:
            shared = torch.relu(self.proposals(level))
            found += [self.objectness(shared), self.deltas(shared)]
        regions, count = _windows(levels[0]), levels[0].shape[2] * levels[0].shape[3] // WINDOW**2
        box = self.box(regions.flatten(1)).reshape(-1, count, 32)
        mask = self.mask(regions).reshape(-1, count, self.mask[-1].out_channels, 2 * WINDOW, 2 * WINDOW)
        return (self.classify(box), self.refine(box), mask, *found)


def _windows(x: Tensor) -> Tensor:
    """[n, channels, rows, columns] -> [n * windows, channels, WINDOW, WINDOW]."""
    _, channels, rows, columns = x.shape
    x = x.reshape(-1, channels, rows // WINDOW, WINDOW, columns // WINDOW, WINDOW)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, WINDOW, WINDOW)


class DetectionTransformer(nn.Module):
    """DETR: a convolutional backbone, an encoder, a decoder of learned queries, and heads for classes and boxes.

    Positions are added to queries and keys of every attention, not to values.
    """

    def __init__(self, dim: int, heads: int, queries: int, size: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 7, 4, 3, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
        )
        self.project = nn.Conv2d(16, dim, 1)
        self.register_buffer("position", _waves(size // 8, dim))
        self.encoder = _Encoder(dim, heads)
        self.decoders = nn.ModuleList(_Decoder(dim, heads) for _ in range(2))
        self.norm = nn.LayerNorm(dim)
        self.queries = nn.Parameter(torch.randn(1, queries, dim) * 0.5)
        self.classes = nn.Linear(dim, 6)
        self.boxes = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 4), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.encoder(self.project(self.backbone(x)).flatten(2).transpose(1, 2), self.position)
        found = torch.zeros_like(memory[:, : self.queries.shape[1]])  # as DETR starts: only the positions differ
        for decoder in self.decoders:
            found = decoder(found, self.queries, memory, self.position)
        found = self.norm(found)
        return self.classes(found), self.boxes(found)


def _waves(side: int, dim: int) -> Tensor:
    """Sines and cosines of rows and columns, [1, side * side, dim]."""
    rates = 10 ** (-torch.arange(dim // 4) * 4 / dim) * math.pi
    angles = torch.arange(1, side + 1)[:, None] / side * rates
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows = waves[:, None].expand(side, side, dim // 2)
    return torch.cat([rows, rows.transpose(0, 1)], dim=2).reshape(1, side * side, dim)


class _Encoder(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        x = self.norms[0](x + _attend(self.attention, x + position, x + position, x))
        return self.norms[1](x + self.mlp(x))


class _Decoder(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.among = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.across = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))

    def forward(self, x: Tensor, queries: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        x = self.norms[0](x + _attend(self.among, x + queries, x + queries, x))
        x = self.norms[1](x + _attend(self.across, x + queries, memory + position, memory))
        return self.norms[2](x + self.mlp(x))


def _attend(attention: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return attention(query, key, value, need_weights=False)[0]
