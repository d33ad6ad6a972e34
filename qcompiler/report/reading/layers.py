"""What a quantized layer of a file is made of, as values."""

from __future__ import annotations

from dataclasses import dataclass

import onnx


@dataclass(frozen=True)
class Quantizer:
    """The quantizer of one activation.

    Attributes:
        source: Tensor that it reads; empty inside a fused operator.
        bits: Width of a code.
        scheme: ``rows`` or ``channels`` (items that share a group), ``segments`` (channels with free scales) or
            ``blocks`` (of each row).
        groups: Number of groups; 0 for blocks.
        normalize: Whether rows are divided by their root mean square first.
        block: Channels of one block; 0 for groups.
        rotate: Channels that are rotated together in front of blocks; 1 for none.
        levels: How many operands probabilities may have; 0 where the codes are the operands.
        codebook: Whether these operands are others than the codes.
    """

    source: str
    bits: int
    scheme: str
    groups: int = 0
    normalize: bool = False
    block: int = 0
    rotate: int = 1
    levels: int = 0
    codebook: bool = False


@dataclass(frozen=True)
class StoredWeight:
    """A constant integer weight.

    Attributes:
        name: Name of its codes.
        bits: The narrowest width that holds every code.
        stored: Element type of the codes, ``int4`` or ``int8``.
        inner: Input channels.
        outputs: Output channels.
        block: Input channels that share a multiple and a zero point; 0 for none.
        code_bytes: Bytes of the codes.
        scale_bytes: Bytes of the scales, and of the multiples and zero points of blocks.
    """

    name: str
    bits: int
    stored: str
    inner: int
    outputs: int
    block: int
    code_bytes: int
    scale_bytes: int


@dataclass(frozen=True)
class FoundLinear:
    """A linear layer: its node, the tensor that its codes are made of, its quantizer and its weight."""

    node: onnx.NodeProto
    source: str
    input: Quantizer
    weight: StoredWeight


@dataclass(frozen=True)
class FoundAttention:
    """A fused attention block; ``packed`` is the tensor ``[B, N, 3 H D]`` of queries, keys and values."""

    node: onnx.NodeProto
    packed: str
    heads: int
    query: Quantizer
    key: Quantizer
    value: Quantizer
    probability: Quantizer


@dataclass(frozen=True)
class FoundProduct:
    """A product of two activations.

    Attributes:
        node: Its node.
        left: Quantizer of the left operand.
        right: Quantizer of the right operand.
        transposed: Whether the right operand is transposed behind its quantizer.
    """

    node: onnx.NodeProto
    left: Quantizer
    right: Quantizer
    transposed: bool


FoundLayer = FoundLinear | FoundAttention | FoundProduct
