"""Layers of a ViT-Tiny and hand-made group tables."""

import numpy as np

from qcompiler.ir.layers import AttentionBlock, LinearLayer
from qcompiler.quant.groups import GroupTable

F = np.float32


def linear(name="blocks.0.attn.qkv", tokens=197, inner=192, outputs=576, instances=1):
    return LinearLayer(name, "qkv", "x", "y", "w", "b", "add", inner, outputs, tokens, instances)


def attention(instances=1, tokens=197):
    return AttentionBlock(
        name="blocks.0.attn",
        qkv="qkv",
        output="out",
        num_heads=3,
        head_dim=64,
        scale=0.125,
        bias=None,
        scores="blocks.0.attn/scores",
        softmax="blocks.0.attn/softmax",
        mixing="blocks.0.attn/mixing",
        nodes=(),
        tokens=tokens,
        instances=instances,
    )


def table(count, axis, *, exact=False):
    ones = np.ones(count, F)
    multiplier, outer = (ones * F(0.3), ones) if exact else (ones, ones * F(0.3))
    return GroupTable(-ones, ones, ones * F(0.3), ones * 8, multiplier, outer, axis, 4)
