"""From a choice to the quantizer of a linear layer's input, fitted to calibration samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcompiler.errors import OptionError
from qcompiler.quant.channelwise import choose_quantizer, fold
from qcompiler.quant.choices import BLOCKS, FOLDED, LinearChoice
from qcompiler.quant.fit_blocks import fit_block_quantizer
from qcompiler.quant.groups import F32
from qcompiler.quant.inputs import LinearInput
from qcompiler.quant.planner import LinearSamples, linear_axis, linear_table
from qcompiler.quant.row_norm import normalize_rows


@dataclass(frozen=True)
class InputSamples:
    """Statistics of one linear layer's input.

    Attributes:
        sample: Sampled instances ``[kept, N, C]``.
        ranges: Ranges of channels and of rows, both of normalised rows, ``[kept, 2]`` by axis.
    """

    sample: F32
    ranges: dict[int, F32]


def fit_input(
    choice: LinearChoice, samples: InputSamples, weight: F32, *, norm: str | None = None, integer: bool = True
) -> LinearInput:
    """Fit the input's quantizer.

    Args:
        choice: Width and scheme.
        samples: Statistics of the input.
        weight: Float weight ``[C, D]`` of the layer.
        norm: Name of the LayerNormalization in front that may take a fold, if there is one.
        integer: Keep channel groups on integer multiples of one base scale.

    Raises:
        OptionError: The choice does not fit the layer.
    """
    channels = len(weight)
    if choice.weight_block and channels % choice.weight_block:
        raise OptionError(f"weight_block {choice.weight_block} does not divide {channels} channels")
    if choice.scheme == BLOCKS:
        block = choice.block or channels
        if channels % block or channels % choice.rotate:
            raise OptionError(f"blocks of {block} rotated by {choice.rotate} do not divide {channels} channels")
        return LinearInput(fit_block_quantizer(samples.sample, choice.activation_bits, block, choice.rotate, weight))
    if choice.scheme == FOLDED:
        if norm is None:
            raise OptionError("scheme 'folded' needs a LayerNormalization in front that only this layer reads")
        found = choose_quantizer(samples.sample, weight, choice.activation_bits, choice.weight_bits)
        moved, table = fold(found, choice.activation_bits, norm)
        return LinearInput(table, normalize=False, fold=moved)
    rows = LinearSamples(normalize_rows(np.ascontiguousarray(samples.sample)), samples.ranges)
    axis = linear_axis(rows, weight, choice.activation_bits, choice.groups, integer=integer)
    return LinearInput(linear_table(rows, axis, weight, choice.activation_bits, choice.groups, integer=integer))
