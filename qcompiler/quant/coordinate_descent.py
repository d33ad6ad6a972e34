"""Integer weights made better one code at a time, from codes that another way of rounding found.

Second-order rounding decides every channel once, before it knows what the later ones round to. Coordinate descent goes
over the channels again: each code is set to the best one that there is while all others stay, and now and then the
scale of each output to the best one for its codes. Neither step can raise the error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.quant.groups import F32
from qcompiler.quant.weight_grid import WeightBlocks, WeightGrid
from qcompiler.quant.weights import DAMPING, QuantizedWeight

ROUNDS = 2  # of sweeps over all codes and a fit of the scales
SWEEPS = 2
PANEL = 64  # channels whose gradient is kept up to date together
OUTPUTS = 256  # at a time: beside the matrix of a wide layer what is worked on stays small

Floats = NDArray[np.float64]


def coordinate_descent(
    weight: F32,
    start: QuantizedWeight,
    hessian: NDArray[np.floating[Any]],
    damping: float = DAMPING,
    *,
    rounds: int = ROUNDS,
    sweeps: int = SWEEPS,
) -> QuantizedWeight:
    """Lower the error ``tr((W' - W)^T (H + added I) (W' - W))`` of integer weights ``W'``.

    Codes and scales change; multiples and zero points of blocks stay.

    Args:
        weight: Float weights ``[C, D]``.
        start: Integer weights of it.
        hessian: Second moment of the layer's inputs, ``[C, C]``, symmetric.
        damping: What is added to the diagonal, as a share of its mean.
        rounds: How often the scales are fitted.
        sweeps: How often every code is looked at before that.

    Returns:
        Integer weights of no larger error, up to the rounding of scales to float32.
    """
    matrix = hessian.astype(np.float64)
    matrix.flat[:: len(matrix) + 1] += damping * float(np.diag(hessian).mean())
    if not matrix.any():
        return start
    codes, scale = np.empty_like(start.codes), np.empty_like(start.scale)
    for begin in range(0, weight.shape[1], OUTPUTS):
        part = slice(begin, begin + OUTPUTS)
        codes[:, part], scale[part] = _descend(weight[:, part], _outputs(start, part), matrix, rounds, sweeps)
    return QuantizedWeight(codes, scale, start.bits, start.blocks)


def _outputs(whole: QuantizedWeight, part: slice) -> QuantizedWeight:
    blocks = whole.blocks and WeightBlocks(whole.blocks.multiplier[:, part], whole.blocks.zero_point[:, part])
    return QuantizedWeight(whole.codes[:, part], whole.scale[part], whole.bits, blocks)


def _descend(
    weight: F32, start: QuantizedWeight, matrix: Floats, rounds: int, sweeps: int
) -> tuple[NDArray[np.int8], F32]:
    """Codes and scales of some outputs: those of one do not depend on those of others."""
    grid = WeightGrid(start.bits, np.ones_like(start.scale), start.blocks)
    unit, zero = (np.broadcast_to(x, weight.shape) for x in grid.steps(len(weight)))
    codes, scale = start.codes.astype(np.float64), start.scale.astype(np.float64)
    wanted = matrix @ weight
    for _ in range(rounds):
        for _ in range(sweeps):
            _sweep(weight, codes, unit * scale, zero, grid, matrix)
        scale = _best_scale(unit * (codes - zero), scale, wanted, matrix)
    return codes.astype(np.int8), scale.astype(np.float32)


def _sweep(weight: F32, codes: Floats, step: Floats, zero: F32, grid: WeightGrid, matrix: Floats) -> None:
    """Sets every code to the best one while all others stay, in place."""
    error = step * (codes - zero) - weight
    for begin in range(0, len(codes), PANEL):
        end = min(begin + PANEL, len(codes))
        gradient = matrix[begin:end] @ error
        for i in range(begin, end):
            best = weight[i] + error[i] - gradient[i - begin] / matrix[i, i]
            found = np.clip(np.rint(best / step[i]) + zero[i], grid.low, grid.high)
            moved = np.flatnonzero(found != codes[i])
            if moved.size:
                change = step[i, moved] * (found - codes[i])[moved]
                codes[i] = found
                error[i, moved] += change
                gradient[i - begin + 1 :, moved] += np.outer(matrix[i + 1 : end, i], change)


def _best_scale(operand: Floats, scale: Floats, wanted: Floats, matrix: Floats) -> Floats:
    """The scale of each output ``[D]`` of least error; the given one where no positive one is best."""
    along = np.einsum("cd,cd->d", operand, wanted)
    power = np.einsum("cd,cd->d", operand, matrix @ operand)
    usable = (along > 0) & (power > 0)
    return np.where(usable, along / np.where(usable, power, 1), scale)
