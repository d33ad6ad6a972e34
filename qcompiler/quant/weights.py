"""Weight quantization: symmetric per output channel, rounded to nearest or by second-order compensation.

The second-order form is the column-by-column rounding of GPTQ: after an input channel is rounded, the remaining float
channels absorb its error through the inverse Hessian of the layer's inputs. Tokens are weighted so that a few massive
ones do not own the Hessian; the damping is far above the usual 0.01 for the same reason (both measured on vision
transformers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.quant.groups import F32

DAMPING = 0.3
RIDGE = 0.3
CLIP_RATIOS = np.linspace(0.4, 1.0, 25).astype(np.float32)


@dataclass(frozen=True)
class QuantizedWeight:
    """Integer weights ``codes [C, D]`` (int8, within the width) and one scale per output channel ``scale [D]``."""

    codes: NDArray[np.int8]
    scale: F32
    bits: int

    def dequantized(self) -> F32:
        """The weights as the quantized network sees them, float32 ``[C, D]``."""
        return self.codes.astype(np.float32) * self.scale


def channel_scales(weight: F32, bits: int, importance: F32 | None = None) -> F32:
    """Clipped symmetric scale of each output channel, the one of least (weighted) rounding error.

    Args:
        weight: Float weights ``[C, D]``.
        bits: Width; codes lie in ``[-(2**(bits-1) - 1), 2**(bits-1) - 1]``.
        importance: Weight of each input channel's error ``[C]`` (mean square of the layer's input), or None.

    Returns:
        Scales ``[D]``, all positive.
    """
    top = 2 ** (bits - 1) - 1
    absmax = np.abs(weight).max(axis=0)
    full = np.where(absmax > 0, absmax, 1).astype(np.float32) / np.float32(top)
    importance = np.ones(len(weight), np.float32) if importance is None else importance
    best_error = np.full(weight.shape[1], np.inf)
    best = full
    for ratio in CLIP_RATIOS:
        scale = full * ratio
        difference = weight - scale * np.clip(np.rint(weight / scale), -top, top)
        error = importance @ (difference * difference)
        better = error < best_error
        best, best_error = np.where(better, scale, best), np.where(better, error, best_error)
    return best.astype(np.float32)


def round_to_nearest(weight: F32, bits: int, importance: F32 | None = None) -> QuantizedWeight:
    """Quantize ``weight [C, D]`` per output channel, each weight to its nearest code."""
    top = 2 ** (bits - 1) - 1
    scale = channel_scales(weight, bits, importance)
    codes = np.clip(np.rint(weight / scale), -top, top).astype(np.int8)
    return QuantizedWeight(codes, scale, bits)


def compensate_inputs(
    weight: F32, inputs: NDArray[np.floating[Any]], quantized: NDArray[np.floating[Any]], ridge: float = RIDGE
) -> F32:
    """Float weights that give on quantized inputs what ``weight`` gives on float ones, in the least-squares sense.

    Minimises ``|quantized @ W' - inputs @ W|^2 + lambda |W' - W|^2`` (ridge regression towards the original weights).

    Args:
        weight: Float weights ``[C, D]``.
        inputs: Rows of the layer's input ``[rows, C]``.
        quantized: The same rows as the quantized network sees them.
        ridge: ``lambda``, as a share of the mean of the diagonal of ``quantized^T quantized``.

    Returns:
        Float weights ``[C, D]``; equal to ``weight`` where both inputs are equal.
    """
    seen = quantized.astype(np.float64)
    gram = seen.T @ seen
    strength = ridge * float(np.trace(gram)) / len(gram) or 1.0  # inputs that are all zero leave the weights alone
    wanted = (seen.T @ inputs) @ weight + strength * weight
    return np.linalg.solve(gram + strength * np.eye(len(gram)), wanted).astype(np.float32)


def second_order(weight: F32, bits: int, hessian: NDArray[np.float64], damping: float = DAMPING) -> QuantizedWeight:
    """Quantize ``weight [C, D]`` with error compensation over the input channels (GPTQ).

    Args:
        weight: Float weights ``[C, D]``.
        bits: Width of the codes.
        hessian: Second moment of the layer's inputs ``X^T diag(token weight) X``, ``[C, C]``, symmetric.
        damping: Added to the diagonal, as a share of its mean.

    Returns:
        The integer weights; equal to :func:`round_to_nearest` when the Hessian is diagonal.
    """
    top = 2 ** (bits - 1) - 1
    diagonal = np.diag(hessian).copy()
    scale = channel_scales(weight, bits, diagonal.astype(np.float32))
    mean = float(diagonal.mean())
    if mean == 0:
        return round_to_nearest(weight, bits)
    # The most energetic inputs are rounded first, while every other channel can still absorb their error.
    order = np.argsort(-diagonal, kind="stable")
    damped = hessian[np.ix_(order, order)] + np.eye(len(order)) * damping * mean
    # Row i of the upper Cholesky factor of H^-1 spreads the error of channel i over the channels after it.
    factor = np.ascontiguousarray(np.linalg.cholesky(np.linalg.inv(damped)).T)
    remaining = weight[order].astype(np.float64)
    codes = np.empty(weight.shape, np.int8)
    block = 64
    for begin in range(0, len(order), block):
        end = min(begin + block, len(order))
        errors = np.empty((end - begin, weight.shape[1]))
        for i in range(begin, end):
            q = np.clip(np.rint(remaining[i] / scale), -top, top)
            codes[order[i]] = q.astype(np.int8)
            errors[i - begin] = (remaining[i] - q * scale) / factor[i, i]
            remaining[i + 1 : end] -= np.outer(factor[i, i + 1 : end], errors[i - begin])
        remaining[end:] -= factor[begin:end, end:].T @ errors
    return QuantizedWeight(codes, scale, bits)
