"""Per-token blocks: every token cuts its channels into blocks, and every block picks a step of its own at run time.

A token's outer scale ``s`` follows its largest magnitude. In units of ``s`` a block's step is a small integer ``m``, so
that ``m * (code - zero_point)`` is a signed byte and the whole layer stays one integer product. Nothing is calibrated
but how tightly the codes of a block cover its range.

In front of it the channels may be rotated: every set of a few neighbouring ones becomes its Walsh-Hadamard transform,
which spreads a large channel over its set. The rows of the weight are rotated the other way, so that the product is the
same; both the codes and the weight of such a layer live in the rotated basis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.quant.groups import F32, OPERAND_LIMIT

WIDEST_BLOCK_BITS = 7  # a code of 8 bits leaves no room for a multiplier
WIDEST_ROTATION = 128
SMALLEST_ROW = np.float32(1e-30)  # below it a row counts as zeros: the inverse of its scale would not be finite


@dataclass(frozen=True)
class BlockQuantizer:
    """Quantizer in blocks of each token: of a linear layer's input, or of queries, keys or values per head.

    Attributes:
        bits: Width of a code.
        block: Channels of one block; divides the channels of the input, or of one head.
        clip: Share of a block's range that its codes cover, in (0, 1].
        slack: Share of a step by which the range may exceed the codes before the multiplier goes up, in [0, 0.5].
        rotate: Channels that are rotated together, a power of two up to ``WIDEST_ROTATION`` that divides the channels
            of the input; 1 rotates nothing.
    """

    bits: int
    block: int
    clip: float = 1.0
    slack: float = 0.25
    rotate: int = 1

    @property
    def top(self) -> int:
        """Largest code."""
        return 2**self.bits - 1

    @property
    def most(self) -> int:
        """Largest multiplier: with the zero point in the middle its operands still fit a signed byte."""
        return OPERAND_LIMIT // 2 ** (self.bits - 1)

    @property
    def reach(self) -> int:
        """Largest magnitude of a token in units of its scale: what the largest multiplier can still code."""
        return self.most * 2 ** (self.bits - 1)


@dataclass(frozen=True)
class BlockOperands:
    """A quantized input, in the rotated basis.

    Attributes:
        codes: float32 integers in ``[0, 2**bits - 1]``, ``[..., N, C]``.
        multiplier: Of every block, ``[..., N, C / block]``.
        zero_point: Likewise.
        operand: ``clip(multiplier * (code - zero_point), -127, 127)``, ``[..., N, C]``.
        scale: Outer scale of every token, ``[..., N, 1]``, or of every instance, ``[..., 1, 1]``.
    """

    codes: F32
    multiplier: F32
    zero_point: F32
    operand: F32
    scale: F32


def block_operands(x: F32, quantizer: BlockQuantizer, *, shared: bool = False) -> BlockOperands:
    """Quantize ``x [..., N, C]``; the order of the float32 operations is that of the operators.

    Args:
        x: Activations.
        quantizer: How.
        shared: All tokens of an instance (one index of all leading axes) share one outer scale ``[..., 1, 1]``.
    """
    one, limit = np.float32(1), np.float32(OPERAND_LIMIT)
    x = rotate_rows(x, quantizer.rotate)
    reach = np.abs(x).max(axis=(-2, -1) if shared else -1, keepdims=True)
    scale = np.where(reach > SMALLEST_ROW, reach / np.float32(quantizer.reach), one)
    units = x * (one / scale)
    blocks = units.reshape(*x.shape[:-1], -1, quantizer.block)
    clip = np.float32(quantizer.clip)
    low = np.minimum(blocks.min(axis=-1, keepdims=True), np.float32(0)) * clip
    high = np.maximum(blocks.max(axis=-1, keepdims=True), np.float32(0)) * clip
    steps = (high - low) * (one / np.float32(quantizer.top)) - np.float32(quantizer.slack)
    multiplier = np.clip(np.ceil(steps), 1, quantizer.most)
    inverse = one / multiplier
    zero_point = np.clip(np.rint(-low * inverse), 0, quantizer.top)
    codes = np.clip(np.rint(blocks * inverse) + zero_point, 0, quantizer.top)
    operand = np.clip(multiplier * (codes - zero_point), -limit, limit)
    return BlockOperands(
        codes.reshape(x.shape), multiplier[..., 0], zero_point[..., 0], operand.reshape(x.shape), scale
    )


def fake_quantize_blocks(x: F32, quantizer: BlockQuantizer) -> F32:
    """``x`` as the quantized network sees it, in the rotated basis; shape and dtype of ``x``."""
    found = block_operands(x, quantizer)
    return found.operand * found.scale


def fake_quantize_values(x: F32, quantizer: BlockQuantizer) -> F32:
    """Values ``x [..., N, D]`` of attention as the quantized network sees them, not rotated.

    The product with the probabilities sums over tokens, so that all tokens of a head share one scale.
    """
    found = block_operands(x, quantizer, shared=True)
    return found.operand * found.scale


def simulate_blocks(x: F32, quantizer: BlockQuantizer) -> F32:
    """The same in the basis of ``x``, for products with a weight that is not rotated."""
    return unrotate_rows(fake_quantize_blocks(x, quantizer), quantizer.rotate)


def rotate_rows(x: F32, size: int) -> F32:
    """Walsh-Hadamard transform of every ``size`` neighbouring channels, not normalised.

    Args:
        x: Rows ``[..., C]``.
        size: A power of two that divides C; 1 changes nothing.

    Returns:
        float32 of the shape of ``x``; the order of the float32 operations is that of the operators.
    """
    return _transform(x, size)


def unrotate_rows(x: F32, size: int) -> F32:
    """The inverse of :func:`rotate_rows` up to rounding: the same transform, divided by ``size``."""
    return rotate_rows(x, size) / np.float32(size)


def rotate_weight(weight: F32, size: int) -> F32:
    """What a weight ``[C, D]`` becomes for rotated rows, so that the product stays the same up to rounding.

    Every ``size`` neighbouring input channels become their Walsh-Hadamard transform divided by ``size``, in float64.
    """
    return (_transform(weight.astype(np.float64).T, size).T / size).astype(np.float32, order="C")


def _transform(x: NDArray[Any], size: int) -> NDArray[Any]:
    """The transform along the last axis in the dtype of ``x``."""
    half = 1
    while half < size:
        pairs = x.reshape(*x.shape[:-1], -1, 2, half)
        found = np.empty_like(pairs)
        np.add(pairs[..., 0, :], pairs[..., 1, :], out=found[..., 0, :])
        np.subtract(pairs[..., 0, :], pairs[..., 1, :], out=found[..., 1, :])
        x = found.reshape(x.shape)
        half *= 2
    return x
