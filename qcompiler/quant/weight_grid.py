"""The values that a weight may take: one step per output channel, or integer multiples of it per block of inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcompiler.quant.groups import F32

CLIP_RATIOS = np.linspace(0.4, 1.0, 25).astype(np.float32)
# Largest operand of a weight in blocks: two products with any activation then fit 16 bits together, which is how AVX2
# adds them. A signed byte would hold 127 and leave 6 % less error at 4 bits; products would take half as long again.
OPERAND_LIMIT = 64
WIDEST_BLOCK_BITS = 6  # wider codes leave hardly any multiples
ZERO_POINTS = (-8, 7)  # a nibble
MOST_MULTIPLE = 15  # a nibble
SMALLEST_COLUMN = np.float32(1e-30)  # below it an output channel counts as zeros: its scale would vanish
REACHES = (0.75, 0.85, 0.95, 1.05)  # of the largest operand, for the largest weight of an output channel
WIDENINGS = (0.6, 1.15)  # multiples tried, as shares of the one that just covers a block's range
WORKED_AT = 1 << 16  # weights at a time: what is computed of them stays in the cache


@dataclass(frozen=True)
class WeightBlocks:
    """Integer multiples and zero points of blocks of ``C / K`` neighbouring input channels.

    Attributes:
        multiplier: uint8 ``[K, D]`` in ``1 .. 15``.
        zero_point: int8 ``[K, D]`` in ``[-8, 7]``.
    """

    multiplier: NDArray[np.uint8]
    zero_point: NDArray[np.int8]

    def packed(self) -> NDArray[np.uint8]:
        """One byte per block and output as the operators take it: multiplier high, ``zero_point + 8`` low."""
        return self.multiplier << np.uint8(4) | (self.zero_point + np.int8(8)).astype(np.uint8)


@dataclass(frozen=True)
class WeightGrid:
    """Where the codes of ``weight [C, D]`` lie: ``value = scale * multiplier * (code - zero_point)``.

    Attributes:
        bits: Width of the codes.
        scale: Float step of each output ``[D]``.
        blocks: Multiples and zero points; None for ``multiplier 1, zero_point 0`` and symmetric codes.
    """

    bits: int
    scale: F32
    blocks: WeightBlocks | None = None

    @property
    def low(self) -> int:
        """Smallest code; without zero points the codes are symmetric."""
        return -(2 ** (self.bits - 1)) + (self.blocks is None)

    @property
    def high(self) -> int:
        """Largest code."""
        return 2 ** (self.bits - 1) - 1

    def steps(self, channels: int) -> tuple[F32, F32]:
        """Step and zero point of every weight, both broadcastable to ``[channels, D]``."""
        if self.blocks is None:
            return self.scale[None, :], np.zeros((1, 1), np.float32)
        size = channels // len(self.blocks.multiplier)
        step = self.blocks.multiplier.astype(np.float32) * self.scale
        return np.repeat(step, size, axis=0), np.repeat(self.blocks.zero_point.astype(np.float32), size, axis=0)


def channel_grid(weight: F32, bits: int, importance: F32 | None = None) -> WeightGrid:
    """Symmetric grid with one clipped scale per output channel, the one of least (weighted) rounding error.

    Args:
        weight: Float weights ``[C, D]``.
        bits: Width of the codes.
        importance: Weight of each input channel's error ``[C]`` (mean square of the layer's input), or None.
    """
    top = 2 ** (bits - 1) - 1
    absmax = np.abs(weight).max(axis=0)
    full = np.where(absmax > SMALLEST_COLUMN, absmax, 1).astype(np.float32) / np.float32(top)
    importance = np.ones(len(weight), np.float32) if importance is None else importance
    best_error = np.full(weight.shape[1], np.inf)
    best = full
    for ratio in CLIP_RATIOS:
        scale = full * ratio
        difference = weight - scale * np.clip(np.rint(weight / scale), -top, top)
        error = importance @ (difference * difference)
        better = error < best_error
        best, best_error = np.where(better, scale, best), np.where(better, error, best_error)
    return WeightGrid(bits, best.astype(np.float32))


def block_grid(weight: F32, bits: int, block: int, importance: F32 | None = None) -> WeightGrid:
    """Grid with an integer multiple and a zero point per output and block, of least (weighted) rounding error.

    Args:
        weight: Float weights ``[C, D]``; ``block`` divides C.
        bits: Width of the codes, at most 6.
        block: Input channels of one block.
        importance: As for :func:`channel_grid`.
    """
    channels, outputs = weight.shape
    blocks = weight.reshape(-1, block, outputs)
    importance = np.ones(channels, np.float32) if importance is None else importance
    weighing = importance.reshape(-1, block).astype(np.float32)
    absmax = np.abs(weight).max(axis=0)
    largest = np.float32(min(MOST_MULTIPLE * 2 ** (bits - 1), OPERAND_LIMIT))
    count = max(WORKED_AT // (block * outputs), 1)
    best: tuple[NDArray[np.float64], F32, F32, F32] | None = None
    for reach in REACHES:
        scale = np.where(absmax > SMALLEST_COLUMN, absmax / (largest * np.float32(reach)), 1).astype(np.float32)
        parts = [
            _fit_blocks(blocks[begin : begin + count] / scale, bits, weighing[begin : begin + count])
            for begin in range(0, len(blocks), count)
        ]
        error, multiplier, zero = (np.concatenate(values) for values in zip(*parts, strict=True))
        total = error.sum(axis=0) * (scale.astype(np.float64) ** 2)
        if best is None:
            best = total, scale, multiplier, zero
            continue
        better = total < best[0]
        best = (
            np.where(better, total, best[0]),
            np.where(better, scale, best[1]),
            np.where(better, multiplier, best[2]),
            np.where(better, zero, best[3]),
        )
    assert best is not None
    return WeightGrid(bits, best[1], WeightBlocks(best[2].astype(np.uint8), best[3].astype(np.int8)))


def _fit_blocks(units: F32, bits: int, weighing: F32) -> tuple[F32, F32, F32]:
    """Error, multiplier and zero point ``[K, D]`` of ``units [K, block, D]``, weights in units of their scale."""
    bottom, top = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    # Codes reach from the zero point, which is one of them: whatever they cover includes zero.
    low, high = np.minimum(units.min(axis=1), 0), np.maximum(units.max(axis=1), 0)
    first_zero, last_zero = max(bottom, ZERO_POINTS[0]), min(top, ZERO_POINTS[1])
    covering = np.maximum(
        (high - low) / (top - bottom), np.maximum(high / (top - first_zero), low / (bottom - last_zero))
    )
    most = min(MOST_MULTIPLE, OPERAND_LIMIT // -bottom)
    first = np.clip(np.floor(covering * np.float32(WIDENINGS[0])), 1, most)
    last = np.clip(np.ceil(covering * np.float32(WIDENINGS[1])), 1, most)
    best_error = np.full(low.shape, np.inf, np.float32)
    best_multiplier, best_zero = np.ones_like(low), np.zeros_like(low)
    difference = np.empty_like(units)
    for offset in range(int((last - first).max()) + 1):
        multiplier = np.minimum(first + np.float32(offset), last)
        nearest = units / multiplier[:, None]
        np.rint(nearest, out=nearest)
        # The window of codes centred on the range, and its neighbours.
        centre = np.rint(-(low + high) / (2 * multiplier) - np.float32(0.5))
        for shift in (-1, 0, 1):
            zero = np.clip(centre + np.float32(shift), first_zero, last_zero)
            room = OPERAND_LIMIT // multiplier
            zero = np.clip(zero, top - room, bottom + room)
            # What a code stands for, the code less the zero point, in place: these arrays are as large as the weights.
            np.clip(nearest, (bottom - zero)[:, None], (top - zero)[:, None], out=difference)
            difference *= multiplier[:, None]
            np.subtract(units, difference, out=difference)
            error = np.einsum("kbd,kbd,kb->kd", difference, difference, weighing)
            better = error < best_error
            best_error = np.where(better, error, best_error)
            best_multiplier, best_zero = (
                np.where(better, multiplier, best_multiplier),
                np.where(better, zero, best_zero),
            )
    return best_error, best_multiplier, best_zero
