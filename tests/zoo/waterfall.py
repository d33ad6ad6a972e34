"""WTPose (arXiv 2411.18944): Swin behind a convolutional stem, a waterfall of dilated attention, heat maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

WINDOW = 4  # positions of an attention, to a side


class WaterfallPose(nn.Module):
    """Maps of all stages of the backbone at one size, a cascade whose steps are all kept, one map per joint.

    Args:
        backbone: Swin over the stem's map, with the attributes of timm's.
        channels: Channels of its stages.
        stem: Channels of its input.
        dim: Channels of the cascade.
    """

    def __init__(self, backbone: Any, channels: tuple[int, ...], stem: int, dim: int, joints: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolution(3, stem, 3, 2), _convolution(stem, stem, 3, 2))
        self.bottleneck = nn.Sequential(
            _convolution(stem, stem // 2, 1), _convolution(stem // 2, stem // 2, 3), nn.Conv2d(stem // 2, stem, 1)
        )
        self.backbone = backbone
        self.gather = nn.Conv2d(sum(channels), dim, 1)
        self.cascade = nn.ModuleList(DilatedBlock(dim, 2, dilation) for dilation in (1, 2))
        self.pooled = nn.Conv2d(dim, dim, 1)
        self.low = nn.Conv2d(stem, dim, 1)
        self.join = _convolution(5 * dim, dim, 1)
        self.maps = nn.Sequential(_convolution(dim, dim, 3), nn.Conv2d(dim, joints, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        low = torch.relu(x + self.bottleneck(x))
        size = low.shape[2:]
        x = self.backbone.patch_embed(low)
        stages = []
        for stage in self.backbone.layers:
            x = stage(x)
            stages.append(functional.interpolate(x.permute(0, 3, 1, 2), size=size, mode="bilinear"))
        gathered = self.gather(torch.cat(stages, dim=1))
        tokens = gathered.permute(0, 2, 3, 1)
        branches = [gathered]
        for block in self.cascade:
            tokens = block(tokens)
            branches.append(tokens.permute(0, 3, 1, 2))
        pooled = self.pooled(gathered.mean(dim=(2, 3), keepdim=True))
        branches += [functional.interpolate(pooled, size=size, mode="nearest"), self.low(low)]
        return self.maps(self.join(torch.cat(branches, dim=1)))


class DilatedBlock(nn.Module):
    """Attention among positions `dilation` apart, and an MLP; [n, rows, columns, channels] -> the same."""

    def __init__(self, dim: int, heads: int, dilation: int) -> None:
        super().__init__()
        self.heads, self.dilation = heads, dilation
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def attend(self, x: Tensor) -> Tensor:
        _, rows, columns, dim = x.shape
        whole = WINDOW * self.dilation
        down, across = rows // whole, columns // whole
        # Split rows and columns into (window, position in it, phase): a phase of a window is one attention.
        x = x.reshape(-1, down, WINDOW, self.dilation, across, WINDOW, self.dilation, dim)
        x = x.permute(0, 1, 4, 3, 6, 2, 5, 7).reshape(-1, WINDOW**2, dim)
        qkv = self.qkv(x).reshape(-1, WINDOW**2, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        scores = query * (dim // self.heads) ** -0.5 @ key.transpose(-2, -1)
        x = self.proj((scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(-1, WINDOW**2, dim))
        x = x.reshape(-1, down, across, self.dilation, self.dilation, WINDOW, WINDOW, dim)
        return x.permute(0, 1, 5, 3, 2, 6, 4, 7).reshape(-1, rows, columns, dim)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )
