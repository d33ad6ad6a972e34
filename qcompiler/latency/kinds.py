"""Classes of lowered operators that take equally long on one path of the operator library.

What a path's product does with its operands depends on their widths only where pairs of products are added in 16 bits:
small operands then need fewer steps. Elsewhere a byte is a byte, and one width of each storage format stands for all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from qcompiler.latency.shapes import AttentionShape, LinearShape
from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.groups import ROWS
from qcompiler.quant.plan import AttentionPlan, BlockAttentionPlan, InputQuantizer

BYTE_PATHS = frozenset({"avxvnni", "avx512vnni", "amx", "reference"})  # whose product knows nothing of widths
BLOCKS, CHANNELS, ROW_GROUPS, SEGMENTS = "blocks", "channels", "rows", "segments"
INT4, INT8 = 4, 8  # widths that stand for those of a storage format
BLOCKS_INT8 = 6  # of weights in blocks: no wider ones have any
NARROW_REACH = 64  # operands up to it leave room for twice as many sums in 16 bits as those up to 127


@dataclass(frozen=True)
class LinearKind:
    """A lowered linear layer.

    Attributes:
        shape: Its sizes.
        scheme: How the input is quantized: ``blocks``, ``channels`` (integer multiples), ``rows`` or ``segments``.
        activation_bits: Width of the input's codes.
        groups: Number of groups; 1 for blocks.
        cut: Whether a token is cut into several blocks.
        rotate: Whether channels are rotated in front of blocks.
        normalize: Whether rows are divided by their root mean square.
        weight_bits: Width of the weights.
        weight_blocks: Whether weights have multiples per block.
    """

    shape: LinearShape
    scheme: str
    activation_bits: int
    groups: int
    cut: bool
    rotate: bool
    normalize: bool
    weight_bits: int
    weight_blocks: bool


@dataclass(frozen=True)
class AttentionKind:
    """A lowered attention block.

    Attributes:
        shape: Its sizes.
        in_blocks: Queries, keys and values have a quantizer per token, instead of groups.
        qk_bits: Width of queries and keys.
        value_bits: Width of values and probabilities.
        groups: Row groups of the probabilities.
        codebook: Probabilities are looked up in learned levels.
    """

    shape: AttentionShape
    in_blocks: bool
    qk_bits: int
    value_bits: int
    groups: int
    codebook: bool


Kind = LinearKind | AttentionKind


def linear_kind(
    shape: LinearShape, weight_bits: int, weight_blocks: bool, quantizer: InputQuantizer, normalize: bool
) -> LinearKind:
    """The operator that a linear layer becomes with such weights and such a quantizer of its input."""
    if isinstance(quantizer, BlockQuantizer):
        cut, rotate = quantizer.block < shape.channels, quantizer.rotate > 1
        return LinearKind(shape, BLOCKS, quantizer.bits, 1, cut, rotate, False, weight_bits, weight_blocks)
    scheme = ROW_GROUPS if quantizer.axis == ROWS else SEGMENTS if quantizer.exact else CHANNELS
    bits, count = quantizer.bits, quantizer.count
    return LinearKind(shape, scheme, bits, count, False, False, normalize, weight_bits, weight_blocks)


def attention_kind(shape: AttentionShape, plan: AttentionPlan | BlockAttentionPlan) -> AttentionKind:
    """The operator that a planned attention block becomes."""
    in_blocks = isinstance(plan, BlockAttentionPlan)
    return AttentionKind(shape, in_blocks, plan.qk_bits, plan.v_bits, plan.probability.count, plan.codebook)


def representative(kind: Kind, path: str) -> Kind:
    """The kind that is measured for ``kind`` on a path: equal for kinds that take equally long there."""
    if isinstance(kind, AttentionKind):
        if path in BYTE_PATHS:
            return replace(kind, qk_bits=INT4, value_bits=INT4)
        return replace(kind, qk_bits=_by_reach(kind.qk_bits) if kind.in_blocks else kind.qk_bits)
    stored = INT4 if kind.weight_bits <= INT4 else BLOCKS_INT8 if kind.weight_blocks else INT8
    if path in BYTE_PATHS:
        return replace(kind, activation_bits=INT4, weight_bits=stored)
    weight_bits = stored if kind.weight_blocks else kind.weight_bits  # blocks reach equally far at every width
    bits = _by_reach(kind.activation_bits) if kind.scheme == BLOCKS else kind.activation_bits
    return replace(kind, activation_bits=bits, weight_bits=weight_bits)


def _by_reach(bits: int) -> int:
    """One width for all whose operands in blocks reach equally far."""
    return bits if BlockQuantizer(bits, 1).reach <= NARROW_REACH else INT4
