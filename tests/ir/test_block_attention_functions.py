"""The bodies of BlockAttention in plain ONNX Runtime and in ONNX's reference, against the definition in NumPy."""

import numpy as np
import pytest

from ..runtime_ops import blocks
from ..runtime_ops.nodes import F32, block_attention_node, probability_table, table
from .bodies import evaluate, run_node

UNIFORM = np.arange(16, dtype=np.uint8)
CODEBOOK = np.unique(np.rint(127 * np.linspace(0, 1, 16) ** 2)).astype(np.uint8)


def case(qk_bits, v_bits, block, levels, bias_shape=None, batch=4, tokens=9, heads=2, head_dim=6):
    """A node, its input and what the definition says of it."""
    rng = np.random.default_rng(qk_bits)
    p_groups = probability_table(rng, len(levels), 3)
    size = np.exp2(rng.uniform(-3, 1, (batch, tokens, 3 * heads * head_dim // block)))
    qkv = (rng.normal(size=(batch, tokens, 3 * heads * head_dim)) * np.repeat(size, block, -1)).astype(F32)
    qkv[0, 1] = 0
    bias = None
    if bias_shape is not None:
        hidden = rng.random((*bias_shape, tokens, tokens)) < 0.3
        bias = (rng.normal(size=(*bias_shape, tokens, tokens)) - 100 * hidden).astype(F32)
    widths = {"qk_bits": qk_bits, "v_bits": v_bits, "block": block, "clip": 0.875, "slack": 0.25}
    attributes = {"num_heads": heads, "scale": float(F32(head_dim**-0.5)), **widths}
    node = block_attention_node(p_groups, levels, bias=False if bias is None else bias, **attributes)
    return node, qkv, blocks.attention(qkv, p_groups, levels, bias, **attributes)


@pytest.mark.parametrize("levels", [UNIFORM, CODEBOOK], ids=["uniform", "codebook"])
@pytest.mark.parametrize(("qk_bits", "v_bits", "block"), [(4, 4, 6), (2, 7, 3), (7, 3, 2), (5, 2, 1)])
@pytest.mark.parametrize("bias_shape", [None, (1, 2), (1, 1), (2, 2), (4, 1)], ids=str)
def test_attention(bias_shape, qk_bits, v_bits, block, levels):
    """Row b of the batch takes bias b % windows; a probability next to a rounding boundary may fall to either side."""
    node, qkv, (expected, slack) = case(qk_bits, v_bits, block, levels, bias_shape)
    assert node.op == ("BlockAttention" if bias_shape is None else "BlockAttentionBias")
    assert np.mean(slack == 0) > 0.1, "the case must hold outputs that are fixed"
    for y in (run_node(node, {"QKV": qkv}), run_node(node, {"QKV": qkv}, optimize=True), evaluate(node, {"QKV": qkv})):
        assert y.shape == expected.shape
        assert np.all(np.abs(y - expected) <= 1.001 * slack + 1e-6 + 1e-5 * np.abs(expected))


def test_attention_adds_up_integers():
    """q = 0 makes every probability 1/16, code 16 of 256: each output is 16 times the sum of the rounded values."""
    rng = np.random.default_rng(0)
    qkv = np.zeros((3, 16, 3, 2, 5), F32)
    qkv[:, :, 1] = rng.integers(-9, 10, qkv[:, :, 1].shape)
    # 7 bits: the multiplier is 1 and the scale 64 / 64; from -60 to 64 are less than 128 codes.
    qkv[:, :, 2] = rng.integers(-60, 64, qkv[:, :, 2].shape)
    qkv[:, 3, 2] = 64
    levels, p_groups = np.arange(256, dtype=np.uint8), table([(0, 1, 1 / 256, 0, 1, 1)])
    node = block_attention_node(p_groups, levels, num_heads=2, scale=1.0, qk_bits=4, v_bits=7, block=5)
    y = run_node(node, {"QKV": qkv.reshape(3, 16, 30)})
    sums = np.repeat(16 * qkv[:, :, 2].sum(axis=1, keepdims=True), 16, axis=1)
    np.testing.assert_array_equal(y, sums.reshape(3, 16, 10))


def test_every_image_and_head_has_values_of_its_own_scale():
    """Powers of two per image and head pass through v to the output and change no code."""
    node, qkv, _ = case(4, 4, 3, UNIFORM)
    factor = np.exp2(np.arange(8) - 4).reshape(4, 1, 2, 1).astype(F32)
    parts = qkv.reshape(4, 9, 3, 2, 6).copy()
    plain = run_node(node, {"QKV": qkv})
    parts[:, :, 2] *= factor
    y = run_node(node, {"QKV": parts.reshape(qkv.shape)})
    np.testing.assert_array_equal(y.reshape(4, 9, 2, 6), plain.reshape(4, 9, 2, 6) * factor)
