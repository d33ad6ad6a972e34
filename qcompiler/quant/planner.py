"""Plans of single layers from calibration statistics; every choice made here is made by error on the samples."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qcompiler.quant.fit import fit_table, table_error
from qcompiler.quant.groups import CHANNELS, F32, ROWS, GroupTable, assign, item_ranges
from qcompiler.quant.kmeans import fit_bounds
from qcompiler.quant.levels import CODEBOOK_SIZE, LOG2_UNIT, codebook_levels, log2_levels, uniform_levels

# Above this width uniform levels resolve a probability as finely as the operand of the product can.
WIDEST_CODEBOOK = 6
# Grouping channels by integer multiples needs room between the code and the signed byte that carries its operand.
WIDEST_INTEGER_CHANNELS = 6
CODEBOOK_STRETCHES = (1.0, 1.25, 1.5, 2.0, 3.0)


@dataclass(frozen=True)
class LinearSamples:
    """Statistics of one linear layer's input, rows already normalised.

    Attributes:
        sample: Sampled instances ``[kept, N, C]``.
        ranges: Ranges of channels and of rows ``[kept, 2]``, by axis.
    """

    sample: F32
    ranges: dict[int, F32]


def linear_axis(samples: LinearSamples, weight: F32, bits: int, groups: int, *, integer: bool) -> int:
    """Whether a linear layer's input is grouped by channels or by rows: whichever leaves less output error.

    Args:
        samples: Statistics of the input.
        weight: Float weights ``[C, D]``; a channel's error counts by the energy of its row.
        bits: Width of the codes.
        groups: Number of groups to compare at.
        integer: Channel groups lie on integer multiples of one base scale.

    Returns:
        ``CHANNELS`` or ``ROWS``.
    """
    if samples.sample.shape[-2] == 1 or (integer and bits > WIDEST_INTEGER_CHANNELS):
        return ROWS

    def error(axis: int) -> float:
        table = linear_table(samples, axis, weight, bits, groups, integer=integer)
        return table_error(samples.sample, table, channel_importance(weight))

    return CHANNELS if error(CHANNELS) <= error(ROWS) else ROWS


def linear_table(
    samples: LinearSamples, axis: int, weight: F32, bits: int, groups: int, *, integer: bool
) -> GroupTable:
    """Group quantizer of a linear layer's input along ``axis``; other arguments as for :func:`linear_axis`."""
    ranges = samples.ranges[axis]
    return fit_table(
        samples.sample,
        axis,
        bits,
        groups,
        integer=integer,
        importance=channel_importance(weight),
        ranges=(ranges[:, 0], ranges[:, 1]),
    )


def channel_importance(weight: F32) -> F32:
    """Energy of each row of ``weight [C, D]``: how much an error of that input channel matters to the output."""
    return np.asarray(np.einsum("cd,cd->c", weight, weight), np.float32)


def attention_table(x: F32, axis: int, bits: int, groups: int) -> GroupTable:
    """Symmetric quantizer of queries or keys (``ROWS``) or values (``CHANNELS``), sampled as ``[instances, N, D]``."""
    return fit_table(x, axis, bits, groups, symmetric=True)


def probability_quantizer(p: F32, bits: int, groups: int) -> tuple[GroupTable, NDArray[np.uint8]]:
    """Row groups and levels of the softmax output ``p [instances, N, N]``.

    Uniform levels, a codebook or powers of two (log2 softmax): whichever leaves the least squared error.
    """
    uniform = fit_table(np.ascontiguousarray(p), ROWS, bits, groups)
    # Probabilities are not negative: a zero point would only waste codes.
    uniform = _without_zero_point(uniform)
    if bits > WIDEST_CODEBOOK:
        return uniform, uniform_levels(bits)
    minimum, maximum = item_ranges(p, ROWS)
    lower, upper = fit_bounds(minimum.ravel(), maximum.ravel(), groups)
    index = assign(minimum, maximum, lower, upper)
    choices = [(uniform, uniform_levels(bits))]
    # The upper bound is the mean of the rows' maxima: a codebook that ends there clips half of the rows.
    for stretch in CODEBOOK_STRETCHES:
        reach = upper * np.float32(stretch)
        scale = reach / np.float32(CODEBOOK_SIZE - 1)
        ones = np.ones_like(scale)
        codebook = GroupTable(lower, upper, scale, ones * 0, ones, scale, ROWS, 7)
        choices.append((codebook, codebook_levels(p / reach[index], bits)))
        choices.append((replace(codebook, outer=reach / np.float32(LOG2_UNIT)), log2_levels(bits)))
    return min(choices, key=lambda choice: float(np.mean((quantize_probability(p, *choice) - p) ** 2)))


def quantize_probability(p: F32, table: GroupTable, levels: NDArray[np.uint8]) -> F32:
    """Probabilities as the quantized network sees them."""
    index = assign(*item_ranges(p, ROWS), table.lower, table.upper)
    position = np.clip(np.rint(p * (np.float32(1) / table.scale)[index]), 0, len(levels) - 1).astype(np.intp)
    return levels[position].astype(np.float32) * table.outer[index]


def _without_zero_point(table: GroupTable) -> GroupTable:
    return replace(table, zero_point=table.zero_point * 0)
