"""Bit operations and bytes that a choice costs besides the products: scales of blocks, ranges, rotations."""

from __future__ import annotations

import math

from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.bops import FLOAT_BITS, ProductShape, assignment_bops, range_bops
from qcompiler.quant.weight_grid import MOST_MULTIPLE
from qcompiler.quant.weights import QuantizedWeight


def block_scale_bops(product: ProductShape, block: int) -> int:
    """``32 N D (C / B)``: one rescale-accumulate per output and block, for one operand of a product."""
    return FLOAT_BITS * product.rows * product.outputs * (product.inner // block) * product.count


def block_input_bops(product: ProductShape, quantizer: BlockQuantizer) -> int:
    """Ranges, step and zero point of every block, rotation, and the block scales of a block quantizer.

    A block that is the whole token has one scale per row: an outer scale, which costs nothing in the product.
    """
    values = product.rows * product.inner * product.count
    blocks = values // quantizer.block
    cost = range_bops(product) + assignment_bops(blocks, 1)
    cost += FLOAT_BITS * values * int(math.log2(quantizer.rotate))
    if quantizer.block < product.inner:
        cost += block_scale_bops(product, quantizer.block)
    return cost


def weight_bops(product: ProductShape, block: int) -> int:
    """Block scales of a weight; 0 for one scale per output channel (``block`` 0)."""
    return block_scale_bops(product, block) if block else 0


def weight_bytes(channels: int, outputs: int, bits: int, block: int) -> int:
    """Bytes of a weight in the file: codes (two per byte up to 4 bits), float32 scales, one byte per block."""
    codes = -(-channels * outputs // 2) if bits <= 4 else channels * outputs
    return codes + 4 * outputs + (channels // block if block else 1) * outputs


def effective_weight_bits(weight: QuantizedWeight) -> float:
    """Bits per weight with the multiples and zero points of its blocks; outer scales are not counted."""
    if weight.blocks is None:
        return float(weight.bits)
    block = len(weight.codes) // len(weight.blocks.multiplier)
    return weight.bits + (math.log2(MOST_MULTIPLE + 1) + weight.bits) / block


def effective_input_bits(quantizer: BlockQuantizer, channels: int) -> float:
    """Bits per activation with the multiples and zero points of its blocks."""
    if quantizer.block >= channels:
        return float(quantizer.bits)
    return quantizer.bits + (math.log2(quantizer.most + 1) + quantizer.bits) / quantizer.block
