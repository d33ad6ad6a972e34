"""Blocks of tokens against the definition of the operators, and what a scale shared by the tokens of a head means."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.quant.blocks import BlockQuantizer, block_operands, fake_quantize_blocks, fake_quantize_values

from ..runtime_ops import blocks

F = np.float32
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9))


def heads(seed, leading, channels, block):
    """`[..., N, D]` whose heads, tokens and blocks differ in size and offset, one token of zeros."""
    rng = np.random.default_rng(seed)
    parts = (*leading, channels // block)
    size = np.exp2(rng.uniform(-4, 3, parts))
    offset = rng.normal(size=parts) * rng.integers(0, 2, parts)
    x = rng.normal(size=(*leading, channels)) * np.repeat(size, block, -1) + np.repeat(offset, block, -1)
    x[(0,) * len(leading)] = 0
    return x.astype(F)


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 2**31),
    leading=SHAPES,
    count=st.integers(1, 5),
    block=st.integers(1, 20),
    bits=st.integers(2, 7),
    clip=st.sampled_from([1.0, 0.875, 0.5]),
    slack=st.sampled_from([0.0, 0.25, 0.5]),
    shared=st.booleans(),
)
def test_definition(seed, leading, count, block, bits, clip, slack, shared):
    """Bit by bit, with a scale per token and with one per head."""
    x = heads(seed, leading, count * block, block)
    quantizer = BlockQuantizer(bits, block, clip, slack)
    found = block_operands(x, quantizer, shared=shared)
    expected = blocks.quantize(x, bits, block, clip, slack, shared=shared)
    np.testing.assert_array_equal(found.codes, expected.codes)
    np.testing.assert_array_equal(found.multiplier, expected.multiplier)
    np.testing.assert_array_equal(found.zero_point, expected.zero_point)
    np.testing.assert_array_equal(found.operand, expected.values)
    np.testing.assert_array_equal(found.scale, expected.scale)
    assert found.scale.shape == (*leading[:2], 1 if shared else leading[2], 1)
    y = (fake_quantize_values if shared else fake_quantize_blocks)(x, quantizer)
    assert y.dtype == F
    np.testing.assert_array_equal(y, expected.values.astype(F) * expected.scale)


def test_values_of_a_head_share_a_scale():
    """120 makes the scale 1 for both tokens of the first head; the second head has another one."""
    x = np.array([[[120, 0], [-0.4, 0.6]], [[0, 0], [-240, 3]]], F)
    y = fake_quantize_values(x, BlockQuantizer(4, 2))
    np.testing.assert_array_equal(y, [[[120, 0], [0, 1]], [[0, 0], [-240, 0]]])
    np.testing.assert_array_equal(fake_quantize_blocks(x, BlockQuantizer(4, 2))[0, 0], [120, 0])
    assert np.abs(fake_quantize_blocks(x, BlockQuantizer(4, 2))[0, 1] - x[0, 1]).max() < 0.05


@pytest.mark.parametrize("bits", [3, 4, 6])
def test_one_token_has_the_scale_to_itself(bits):
    x = heads(bits, (4, 2, 1), 32, 16)
    quantizer = BlockQuantizer(bits, 16)
    np.testing.assert_array_equal(fake_quantize_values(x, quantizer), fake_quantize_blocks(x, quantizer))


def test_order_of_tokens_and_heads():
    """A head is one index of all leading axes: neither its place nor the place of a token in it matters."""
    x = heads(5, (2, 3, 7), 12, 4)
    quantizer = BlockQuantizer(4, 4)
    y = fake_quantize_values(x, quantizer)
    np.testing.assert_array_equal(fake_quantize_values(x[:, ::-1, ::-1], quantizer), y[:, ::-1, ::-1])
    np.testing.assert_array_equal(fake_quantize_values(x[1, 2], quantizer), y[1, 2])
