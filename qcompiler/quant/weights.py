"""Weight quantization on a grid: rounded to nearest or by second-order compensation.

The second-order form is the column-by-column rounding of GPTQ: after an input channel is rounded, the remaining float
channels absorb its error through the inverse Hessian of the layer's inputs. Tokens are weighted so that a few massive
ones do not own the Hessian; the damping is far above the usual 0.01 for the same reason, and higher where the Hessian
comes from few rows (all measured on vision transformers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, lapack

from qcompiler.quant.groups import F32
from qcompiler.quant.moments import InputMoments
from qcompiler.quant.weight_grid import WeightBlocks, WeightGrid

DAMPING = 0.2
DAMPING_OF_ROWS = 2.0  # times channels over rows: of how much of the Hessian is chance
RIDGE = 0.3


@dataclass(frozen=True)
class QuantizedWeight:
    """Integer weights.

    Attributes:
        codes: int8 ``[C, D]`` within the width.
        scale: One scale per output channel ``[D]``.
        bits: Width of the codes.
        blocks: Integer multiples and zero points per output and block of inputs; None for plain codes.
    """

    codes: NDArray[np.int8]
    scale: F32
    bits: int
    blocks: WeightBlocks | None = None

    def operand(self) -> F32:
        """Operands ``multiplier * (code - zero_point)`` of the product, float32 integers ``[C, D]``."""
        codes = self.codes.astype(np.float32)
        if self.blocks is None:
            return codes
        size = len(codes) // len(self.blocks.multiplier)
        multiplier, zero = (
            np.repeat(x.astype(np.float32), size, axis=0) for x in (self.blocks.multiplier, self.blocks.zero_point)
        )
        return multiplier * (codes - zero)

    def dequantized(self) -> F32:
        """The weights as the quantized network sees them, float32 ``[C, D]``."""
        return self.operand() * self.scale


def round_to_nearest(weight: F32, grid: WeightGrid) -> QuantizedWeight:
    """Quantize ``weight [C, D]``, each weight to its nearest value of the grid."""
    step, zero = grid.steps(len(weight))
    codes = np.clip(np.rint(weight / step) + zero, grid.low, grid.high).astype(np.int8)
    return QuantizedWeight(codes, grid.scale, grid.bits, grid.blocks)


def damping_for(rows: float, channels: int) -> float:
    """Damping that leaves least error on images which the weights were not fitted to.

    Args:
        rows: Rows that the Hessian was taken over.
        channels: Its size.

    Returns:
        What is added to its diagonal, as a share of the mean of the diagonal.
    """
    return DAMPING + DAMPING_OF_ROWS * channels / rows


def compensate_inputs(weight: F32, moments: InputMoments, ridge: float = RIDGE) -> F32:
    """Float weights that give on quantized inputs what ``weight`` gives on float ones, in the least-squares sense.

    Minimises ``|quantized @ W' - inputs @ W|^2 + lambda |W' - W|^2`` (ridge regression towards the original weights).

    Args:
        weight: Float weights ``[C, D]``.
        moments: Moments of the layer's input.
        ridge: ``lambda``, as a share of the mean of the diagonal of the quantized inputs' second moment.

    Returns:
        Float weights ``[C, D]``; equal to ``weight`` where both inputs are equal.
    """
    gram = moments.gram.astype(np.float64)
    strength = ridge * float(np.trace(gram)) / len(gram) or 1.0  # inputs that are all zero leave the weights alone
    wanted = moments.cross.astype(np.float64) @ weight + strength * weight
    gram.flat[:: len(gram) + 1] += strength
    return np.linalg.solve(gram, wanted).astype(np.float32)


def second_order(
    weight: F32, grid: WeightGrid, hessian: NDArray[np.floating[Any]], damping: float = DAMPING
) -> QuantizedWeight:
    """Quantize ``weight [C, D]`` with error compensation over the input channels (GPTQ).

    Args:
        weight: Float weights ``[C, D]``.
        grid: Values that the weights may take.
        hessian: Second moment of the layer's inputs ``X^T diag(token weight) X``, ``[C, C]``, symmetric.
        damping: Added to the diagonal, as a share of its mean.

    Returns:
        The integer weights; equal to :func:`round_to_nearest` when the Hessian is diagonal.
    """
    diagonal = np.diag(hessian).copy()
    mean = float(diagonal.mean())
    if mean == 0:
        return round_to_nearest(weight, grid)
    # The most energetic inputs are rounded first, while every other channel can still absorb their error.
    order = np.argsort(-diagonal, kind="stable")
    factor = inverse_factor(hessian, order, damping * mean)
    remaining = weight[order].astype(np.float64)
    step, zero = (np.broadcast_to(x, weight.shape)[order] for x in grid.steps(len(weight)))
    codes = np.empty(weight.shape, np.int8)
    block = 64
    for begin in range(0, len(order), block):
        end = min(begin + block, len(order))
        errors = np.empty((end - begin, weight.shape[1]))
        for i in range(begin, end):
            q = np.clip(np.rint(remaining[i] / step[i]) + zero[i], grid.low, grid.high)
            codes[order[i]] = q.astype(np.int8)
            errors[i - begin] = (remaining[i] - (q - zero[i]) * step[i]) / factor[i, i]
            remaining[i + 1 : end] -= np.outer(factor[i, i + 1 : end], errors[i - begin])
        remaining[end:] -= factor[begin:end, end:].T @ errors
    return QuantizedWeight(codes, grid.scale, grid.bits, grid.blocks)


def inverse_factor(hessian: NDArray[np.floating[Any]], order: NDArray[np.intp], added: float) -> NDArray[np.float64]:
    """Upper Cholesky factor of ``(hessian[order, order] + added * identity)^-1``, ``[C, C]``.

    Row i spreads the error of channel i over the channels after it. With rows and columns turned round the matrix is
    ``L L^T``; then ``L^-1``, turned back, is that factor: the inverse is never formed, and all happens in one matrix,
    which for wide layers is as large as several layers of the model.
    """
    turned = order[::-1]
    matrix = hessian[np.ix_(turned, turned)].astype(np.float64)
    matrix.flat[:: len(matrix) + 1] += added
    # The matrix is symmetric: its transpose is what LAPACK, which counts columns first, can work on in place.
    lower = cholesky(matrix.T, lower=True, overwrite_a=True, check_finite=False)
    inverse, _ = lapack.dtrtri(lower, lower=1, overwrite_c=1)
    factor: NDArray[np.float64] = inverse[::-1, ::-1]
    return factor
