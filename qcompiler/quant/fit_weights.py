"""Integer weights of a linear layer, fitted to what its quantized input really is."""

from __future__ import annotations

import numpy as np

from qcompiler.quant.groups import F32
from qcompiler.quant.inputs import LinearInput
from qcompiler.quant.moments import InputMoments
from qcompiler.quant.weight_grid import WeightGrid, block_grid, channel_grid
from qcompiler.quant.weights import QuantizedWeight, compensate_inputs, round_to_nearest, second_order

MOMENT_ROWS_PER_CHANNEL = 4


def linear_weight(
    weight: F32, item: LinearInput, bits: int, block: int, moments: InputMoments, held_out: InputMoments | None
) -> QuantizedWeight:
    """Integer weights of a linear layer, in the basis of its quantizer rows.

    The weights compensate what the quantizer of the input does and are rounded with second-order compensation; where
    that does not help on held-out images, the nearest codes are taken instead.

    Args:
        weight: Float weights ``[C, D]`` of the float network.
        item: Quantizer of the input.
        bits: Width of the codes.
        block: Input channels that share a multiple and a zero point; 0 for one scale per output channel.
        moments: Moments of the input. With too few rows for their rank (a classifier that sees one row per image)
            second-order rounding fits the noise, so it is not tried.
        held_out: Moments of other images, or None: then second-order rounding is taken on trust.
    """
    basis = item.weight(weight)

    def grid(values: F32) -> WeightGrid:
        importance = np.diag(moments.gram).astype(np.float32)
        return block_grid(values, bits, block, importance) if block else channel_grid(values, bits, importance)

    nearest = round_to_nearest(basis, grid(basis))
    if moments.rows < MOMENT_ROWS_PER_CHANNEL * len(weight):
        return nearest
    compensated = compensate_inputs(basis, moments)
    found = second_order(compensated, grid(compensated), moments.gram)
    if held_out is None:
        return found
    options = (found, nearest)
    return min(options, key=lambda option: held_out.output_error(basis, option.dequantized()))
