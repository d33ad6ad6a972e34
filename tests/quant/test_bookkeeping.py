"""Costs besides the products, against numbers worked out by hand for a layer of a ViT-Tiny: 197 x 192 x 576."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.bookkeeping import (
    block_input_bops,
    block_scale_bops,
    effective_input_bits,
    effective_weight_bits,
    weight_bops,
    weight_bytes,
)
from qcompiler.quant.bops import ProductShape, product_bops
from qcompiler.quant.weight_grid import block_grid, channel_grid
from qcompiler.quant.weights import round_to_nearest

from .fitting import weights

QKV = ProductShape(197, 192, 576)
VALUES = 197 * 192


def test_block_scales():
    assert block_scale_bops(QKV, 32) == 21_786_624  # 32 * 197 * 576 * 6
    assert block_scale_bops(QKV, 192) == 3_631_104
    assert weight_bops(QKV, 32) == 21_786_624
    assert weight_bops(QKV, 0) == 0


def test_block_scales_of_32_cost_a_sixteenth_of_w4a4():
    """The number of the method's description."""
    assert block_scale_bops(QKV, 32) / product_bops(QKV, 4, 4) == pytest.approx(1 / 16)


@pytest.mark.parametrize(
    ("quantizer", "expected"),
    [
        (BlockQuantizer(4, 192), 32 * VALUES + 32 * 197),
        (BlockQuantizer(4, 192, rotate=64), 32 * VALUES + 32 * 197 + 32 * VALUES * 6),
        (BlockQuantizer(4, 32), 32 * VALUES + 32 * 197 * 6 + 21_786_624),
        (BlockQuantizer(6, 16, rotate=16), 32 * VALUES + 32 * 197 * 12 + 32 * VALUES * 4 + 2 * 21_786_624),
    ],
    ids=["token", "rotated token", "blocks", "rotated blocks"],
)
def test_block_inputs(quantizer, expected):
    """Ranges, one step and zero point per block, additions of the rotation, one scale per block and output."""
    assert block_input_bops(QKV, quantizer) == expected


@given(
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 5),
    st.sampled_from([4, 8, 16]),
    st.sampled_from([1, 2, 4]),
)
def test_windows_repeat_the_costs(rows, blocks, outputs, count, block, rotate):
    single, whole = (ProductShape(rows, 16 * blocks, outputs, n) for n in (1, count))
    quantizer = BlockQuantizer(4, block, rotate=rotate)
    assert block_input_bops(whole, quantizer) == count * block_input_bops(single, quantizer)
    assert weight_bops(whole, block) == count * weight_bops(single, block)


@pytest.mark.parametrize(
    ("bits", "block", "expected"),
    [
        (8, 0, 192 * 576 + 4 * 576 + 576),
        (5, 0, 192 * 576 + 4 * 576 + 576),  # no type of 5 bits
        (4, 0, 192 * 576 // 2 + 4 * 576 + 576),
        (2, 0, 192 * 576 // 2 + 4 * 576 + 576),
        (4, 32, 192 * 576 // 2 + 4 * 576 + 6 * 576),
        (4, 192, 192 * 576 // 2 + 4 * 576 + 576),
    ],
)
def test_bytes(bits, block, expected):
    assert weight_bytes(192, 576, bits, block) == expected


def test_bytes_of_an_odd_number_of_codes():
    assert weight_bytes(3, 5, 4, 0) == 8 + 20 + 5


@pytest.mark.parametrize("block", [0, 8, 24])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_bytes_are_those_of_the_arrays(bits, block):
    """Codes packed by two up to 4 bits, float32 scales, and the byte of every block."""
    bits = min(bits, 4) if block else bits
    weight = weights(24, 7)
    grid = block_grid(weight, bits, block) if block else channel_grid(weight, bits)
    found = round_to_nearest(weight, grid)
    packed = found.codes.size / (2 if bits <= 4 else 1)
    blocks = 7 if found.blocks is None else found.blocks.packed().nbytes  # plain weights have one byte per output
    assert weight_bytes(24, 7, bits, block) == packed + found.scale.nbytes + blocks


def test_effective_bits_of_weights():
    """A multiple is a nibble, a zero point is as wide as a code."""
    weight = weights(64, 3)
    plain, blocks = (round_to_nearest(weight, grid) for grid in (channel_grid(weight, 4), block_grid(weight, 4, 32)))
    assert effective_weight_bits(plain) == 4
    assert effective_weight_bits(blocks) == 4 + 8 / 32
    assert effective_weight_bits(round_to_nearest(weight, block_grid(weight, 2, 16))) == 2 + 6 / 16


def test_effective_bits_of_inputs():
    """15 multiples at 4 bits: a nibble. 3 at 6 bits: two bits. A whole token has an outer scale only."""
    assert effective_input_bits(BlockQuantizer(4, 32), 192) == 4 + 8 / 32
    assert effective_input_bits(BlockQuantizer(6, 16), 192) == 6 + 8 / 16
    assert effective_input_bits(BlockQuantizer(4, 192), 192) == 4
    assert effective_input_bits(BlockQuantizer(2, 32), 192) == pytest.approx(2 + (np.log2(64) + 2) / 32)
