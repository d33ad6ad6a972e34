"""Integer weights of a linear layer, fitted to what its quantized input really is."""

from __future__ import annotations

import numpy as np

from qcompiler.quant.coordinate_descent import coordinate_descent
from qcompiler.quant.groups import F32
from qcompiler.quant.inputs import LinearInput
from qcompiler.quant.moments import InputMoments
from qcompiler.quant.weight_grid import WeightGrid, block_grid, channel_grid
from qcompiler.quant.weights import (
    QuantizedWeight,
    compensate_inputs,
    damping_for,
    round_to_nearest,
    second_order,
)

MOMENT_ROWS_PER_CHANNEL = 3


def enough_rows(rows: int, channels: int) -> bool:
    """Whether moments over so many rows can determine the weights of so many input channels."""
    return rows >= MOMENT_ROWS_PER_CHANNEL * channels


def nearest_weight(weight: F32, item: LinearInput, bits: int, block: int, energy: F32) -> QuantizedWeight:
    """Integer weights of a linear layer without moments: the nearest codes of the best grid.

    Args:
        weight: Float weights ``[C, D]`` of the float network.
        item: Quantizer of the input.
        bits: Width of the codes.
        block: Input channels that share a multiple and a zero point; 0 for one scale per output channel.
        energy: Sum of the squares of every channel of the quantized rows ``[C]``; a factor common to all is nothing.
    """
    basis = item.weight(weight)
    return round_to_nearest(basis, _grid(basis, bits, block, energy))


def _grid(values: F32, bits: int, block: int, energy: F32) -> WeightGrid:
    return block_grid(values, bits, block, energy) if block else channel_grid(values, bits, energy)


def linear_weight(
    weight: F32, item: LinearInput, bits: int, block: int, moments: InputMoments, held_out: InputMoments | None
) -> QuantizedWeight:
    """Integer weights of a linear layer, in the basis of its quantizer rows.

    The weights compensate what the quantizer of the input does, are rounded with second-order compensation, and made
    better by coordinate descent; where that does not help on held-out images, the nearest codes are taken instead.

    Args:
        weight: Float weights ``[C, D]`` of the float network.
        item: Quantizer of the input.
        bits: Width of the codes.
        block: Input channels that share a multiple and a zero point; 0 for one scale per output channel.
        moments: Moments of the input. With too few rows for their rank (a classifier that sees one row per image)
            second-order rounding fits the noise, so it is not tried.
        held_out: Moments of other images, or None: then second-order rounding is taken on trust.
    """
    energy = np.diag(moments.gram).astype(np.float32)
    if not enough_rows(moments.rows, len(weight)):
        return nearest_weight(weight, item, bits, block, energy)
    basis = item.weight(weight)
    compensated = compensate_inputs(basis, moments)
    damping = damping_for(moments.rows, len(weight))
    rounded = second_order(compensated, _grid(compensated, bits, block, energy), moments.gram, damping)
    found = coordinate_descent(compensated, rounded, moments.gram, damping)
    if held_out is None:
        return found
    nearest = round_to_nearest(basis, _grid(basis, bits, block, energy))
    options = (found, nearest)
    return min(options, key=lambda option: held_out.excess_error(basis, option.dequantized()))
