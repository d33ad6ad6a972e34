"""What quantization decided, per layer: the values that the passes write into the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.groups import F32, ROWS, GroupTable
from qcompiler.quant.weights import QuantizedWeight


@dataclass(frozen=True)
class Widths:
    """Bits of one layer's weights and activations."""

    weight: int
    activation: int

    def __str__(self) -> str:
        return f"w{self.weight}a{self.activation}"


InputQuantizer = GroupTable | BlockQuantizer


@dataclass(frozen=True)
class ChannelFold:
    """Channel-wise quantization folded into the LayerNormalization in front of a layer and into the layer itself.

    Attributes:
        norm: Name of the LayerNormalization.
        scale: What each channel of its output is divided by ``[C]``.
        shift: What is added to each channel before the division ``[C]``.
    """

    norm: str
    scale: F32
    shift: F32


@dataclass(frozen=True)
class LinearPlan:
    """One quantized linear layer.

    Attributes:
        name: Name of its MatMul in the canonical graph.
        weight: Integer weights and their scales.
        input: Quantizer of the input: a table of groups, or blocks of each token.
        normalize: Whether rows are divided by their root mean square first (group quantizers only).
    """

    name: str
    weight: QuantizedWeight
    input: InputQuantizer
    normalize: bool = True

    @property
    def widths(self) -> Widths:
        """Widths of weights and activations."""
        return Widths(self.weight.bits, self.input.bits)

    @property
    def scheme(self) -> str:
        """Name of the input's scheme in reports: blocks, rows, channels (integer multiples) or segments (free)."""
        if isinstance(self.input, BlockQuantizer):
            return "blocks"
        if self.input.axis == ROWS:
            return "rows"
        return "segments" if self.input.exact else "channels"


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
    def qk_bits(self) -> int:
        """Width of queries and keys."""
        return self.query.bits

    @property
    def v_bits(self) -> int:
        """Width of values."""
        return self.value.bits

    @property
    def codebook(self) -> bool:
        """Whether the probabilities use learned levels instead of uniform ones."""
        return _is_codebook(self.levels)


@dataclass(frozen=True)
class BlockAttentionPlan:
    """The two quantized products of one attention block, its operands cut into blocks per token and head.

    Attributes:
        name: Name of the block.
        query_key: Quantizer of queries and of keys.
        value: Quantizer of values, one scale for all tokens of a head; block, clip and slack as for queries and keys.
        probability: Row groups of the softmax output.
        levels: uint8 operand of each index of a probability.
    """

    name: str
    query_key: BlockQuantizer
    value: BlockQuantizer
    probability: GroupTable
    levels: NDArray[np.uint8]

    @property
    def qk_bits(self) -> int:
        """Width of queries and keys."""
        return self.query_key.bits

    @property
    def v_bits(self) -> int:
        """Width of values."""
        return self.value.bits

    @property
    def codebook(self) -> bool:
        """Whether the probabilities use learned levels instead of uniform ones."""
        return _is_codebook(self.levels)


def _is_codebook(levels: NDArray[np.uint8]) -> bool:
    return not np.array_equal(levels, np.arange(len(levels)))


@dataclass(frozen=True)
class QuantPlan:
    """What was decided for a whole model.

    Attributes:
        linears: Plans of the quantized linear layers by name.
        attentions: Those of the attention blocks.
        folds: Norms that channel-wise scales are folded into.
        corrections: What is added to the bias ``[D]`` of linear layers, by name.
    """

    linears: Mapping[str, LinearPlan]
    attentions: Mapping[str, AttentionPlan | BlockAttentionPlan]
    folds: Mapping[str, ChannelFold] = field(default_factory=dict)
    corrections: Mapping[str, F32] = field(default_factory=dict)
