"""Rotated channels against a Hadamard matrix in integers, and quantizers behind a rotation against their definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.quant.blocks import (
    BlockQuantizer,
    block_operands,
    fake_quantize_blocks,
    rotate_rows,
    rotate_weight,
    simulate_blocks,
    unrotate_rows,
)

from ..runtime_ops import blocks

F = np.float32
SIZES = [1, 2, 4, 8, 16, 32, 64, 128]


def matrix(channels, size):
    """The rotation of a whole row: 1 where the bits that row and column share are even in number, otherwise -1."""
    i = np.arange(channels)
    shared = i[:, None] % size & i % size
    parity = sum(shared >> bit & 1 for bit in range(8)) % 2
    return np.where(i[:, None] // size == i // size, 1 - 2 * parity, 0)


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**31),
    leading=st.lists(st.integers(1, 3), max_size=3),
    sets=st.integers(1, 5),
    size=st.sampled_from(SIZES),
)
def test_rotate_rows(seed, leading, sets, size):
    """Whole numbers are exact."""
    x = np.random.default_rng(seed).integers(-1000, 1000, (*leading, sets * size))
    found = rotate_rows(x.astype(F), size)
    assert found.dtype == F
    np.testing.assert_array_equal(found, x @ matrix(sets * size, size))
    np.testing.assert_array_equal(unrotate_rows(found, size), x)


@pytest.mark.parametrize("size", SIZES)
def test_order_of_additions(size):
    x = np.random.default_rng(size).normal(size=(3, 5, 2 * size)).astype(F)
    np.testing.assert_array_equal(rotate_rows(x, size), blocks.rotate_rows(x, size))


def test_neighbours_are_added_first():
    """2^24 + 1 is no float32, 2^24 - 1 is one."""
    x = np.array([2**24, 1, 1, 1], F)
    np.testing.assert_array_equal(rotate_rows(x, 4), [2**24 + 2, 2**24 - 1, 2**24 - 2, 2**24 - 1])


def test_nothing_to_rotate():
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(F)
    np.testing.assert_array_equal(rotate_rows(x, 1), x)
    np.testing.assert_array_equal(rotate_weight(x, 1), x)


@pytest.mark.parametrize("size", SIZES)
def test_the_product_is_the_same(size):
    """Powers of two divide exactly: the products of whole numbers are equal."""
    rng = np.random.default_rng(size)
    x, weight = rng.integers(-9, 10, (7, 128)), rng.integers(-9, 10, (128, 5))
    rotated = rotate_rows(x.astype(F), size).astype(float) @ rotate_weight(weight.astype(F), size).astype(float)
    np.testing.assert_array_equal(rotated, x @ weight)


@pytest.mark.parametrize("size", SIZES)
def test_a_weight_is_rounded_once(size):
    weight = (np.random.default_rng(size).normal(size=(256, 3)) * [1, 1e-3, 1e3]).astype(F)
    exact = matrix(256, size).astype(np.longdouble) @ weight.astype(np.longdouble) / size
    found = rotate_weight(weight, size)
    assert found.dtype == F and found.flags.c_contiguous
    # Half a step of float32, and next to nothing for the sums in float64.
    assert np.all(np.abs(found - exact) <= 0.5000001 * np.spacing(np.abs(found)))


@pytest.mark.parametrize(("block", "rotate"), [(16, 16), (8, 32), (32, 8), (12, 4), (96, 32), (16, 1)])
@pytest.mark.parametrize("bits", [2, 4, 6])
def test_operands(bits, block, rotate):
    """Bit by bit the definition, and what the network sees of it."""
    rng = np.random.default_rng(block)
    x = (rng.normal(size=(2, 7, 96)) * np.exp2(rng.uniform(-3, 3, 96))).astype(F)
    quantizer = BlockQuantizer(bits, block, clip=0.9, rotate=rotate)
    found, expected = block_operands(x, quantizer), blocks.quantize(x, bits, block, 0.9, 0.25, rotate=rotate)
    np.testing.assert_array_equal(found.codes, expected.codes)
    np.testing.assert_array_equal(found.multiplier, expected.multiplier)
    np.testing.assert_array_equal(found.zero_point, expected.zero_point)
    np.testing.assert_array_equal(found.operand, expected.values)
    np.testing.assert_array_equal(found.scale, expected.scale)
    seen = expected.values.astype(F) * expected.scale
    np.testing.assert_array_equal(fake_quantize_blocks(x, quantizer), seen)
    back = seen.astype(float) @ matrix(96, rotate) / rotate
    np.testing.assert_allclose(simulate_blocks(x, quantizer), back, rtol=0, atol=1e-6 * np.abs(x).max())


def test_large_channels_are_spread():
    """What the rotation is for: one channel of a set is far larger than the others."""
    x = np.random.default_rng(5).normal(size=(50, 128)).astype(F)
    x[:, ::32] *= 10
    plain, rotated = (simulate_blocks(x, BlockQuantizer(4, 32, rotate=size)) - x for size in (1, 32))
    assert np.square(rotated).mean() < 0.8 * np.square(plain).mean()
