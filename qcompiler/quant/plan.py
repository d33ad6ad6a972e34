"""What quantization decided, per layer: the values that the passes write into the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcompiler.quant.groups import ROWS, GroupTable
from qcompiler.quant.weights import QuantizedWeight


@dataclass(frozen=True)
class Widths:
    """Bits of one layer's weights and activations."""

    weight: int
    activation: int

    def __str__(self) -> str:
        return f"w{self.weight}a{self.activation}"


@dataclass(frozen=True)
class LinearPlan:
    """One quantized linear layer.

    Attributes:
        name: Name of its MatMul in the canonical graph.
        weight: Integer weights and their scales.
        table: Group quantizer of the input.
        normalize: Whether rows are divided by their root mean square first.
    """

    name: str
    weight: QuantizedWeight
    table: GroupTable
    normalize: bool = True

    @property
    def widths(self) -> Widths:
        """Widths of weights and activations."""
        return Widths(self.weight.bits, self.table.bits)

    @property
    def scheme(self) -> str:
        """Name of the grouping in reports: rows, channels (integer multiples) or segments (free scales)."""
        if self.table.axis == ROWS:
            return "rows"
        return "segments" if self.table.exact else "channels"


@dataclass(frozen=True)
class AttentionPlan:
    """The two quantized products of one attention block.

    Attributes:
        name: Name of the block.
        query: Row groups of the queries, symmetric.
        key: Row groups of the keys, likewise.
        value: Channel groups of the values, symmetric.
        probability: Row groups of the softmax output.
        levels: uint8 operand of each index of a probability.
    """

    name: str
    query: GroupTable
    key: GroupTable
    value: GroupTable
    probability: GroupTable
    levels: NDArray[np.uint8]

    @property
    def bits(self) -> int:
        """Width of queries, keys, values and probabilities."""
        return self.query.bits

    @property
    def codebook(self) -> bool:
        """Whether the probabilities use learned levels instead of uniform ones."""
        return not np.array_equal(self.levels, np.arange(len(self.levels)))


@dataclass(frozen=True)
class QuantPlan:
    """Plans of all quantized layers by name."""

    linears: Mapping[str, LinearPlan]
    attentions: Mapping[str, AttentionPlan]
