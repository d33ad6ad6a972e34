"""The basis in which a weight is rounded while candidates are compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcompiler.quant.channelwise import folded_input, folded_weight
from qcompiler.quant.groups import F32
from qcompiler.quant.plan import ChannelFold
from qcompiler.quant.weight_grid import block_grid, channel_grid
from qcompiler.quant.weights import round_to_nearest


@dataclass(frozen=True)
class WeightBasis:
    """That of the float network, or of a fold, which puts a factor on every row of the weight.

    The basis of a rotated input is left out: it hardly moves the error of the weight.

    Attributes:
        power: Mean squares of the input's channels ``[C]``, by which errors of the weight's rows count.
        fold: Channel-wise scales that move into the weight, or None.
    """

    power: F32
    fold: ChannelFold | None = None

    @classmethod
    def of(cls, rows: F32, fold: ChannelFold | None) -> WeightBasis:
        """The basis of float rows ``[rows, C]`` under a fold."""
        seen = rows if fold is None else folded_input(rows, fold)
        return cls(np.mean(seen * seen, axis=0), fold)

    def nearest(self, weight: F32, bits: int, block: int) -> F32:
        """``weight [C, D]`` rounded to nearest in this basis, as the float network would see it.

        Args:
            weight: Float weight in the basis of the float network.
            bits: Width of the codes.
            block: Input channels that share a multiple and a zero point; 0 for one scale per output channel.
        """
        moved = weight
        if self.fold is not None:
            moved = folded_weight(weight, np.zeros(weight.shape[1], np.float32), self.fold)[0]
        grid = block_grid(moved, bits, block, self.power) if block else channel_grid(moved, bits, self.power)
        found = round_to_nearest(moved, grid).dequantized()
        return found if self.fold is None else found / self.fold.scale[:, None]
