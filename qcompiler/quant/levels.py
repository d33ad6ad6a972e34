"""Levels of the softmax quantizer: what the codes of one attention row stand for.

A row of probabilities is divided by its group's scale and rounded to an index ``t``; the operand of the product with
the values is ``levels[t]``. Uniform levels are the identity. A codebook has 128 indices that share ``2**bits`` distinct
operands, placed by Lloyd's algorithm where probabilities are dense: most lie far below the row's maximum. Log-domain
levels are powers of two: their products are shifts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcompiler.quant.groups import F32

CODEBOOK_SIZE = 128
LOG2_UNIT = 64  # operand of a ratio of one


def uniform_levels(bits: int) -> NDArray[np.uint8]:
    """Identity levels ``0 .. 2**bits - 1``."""
    return np.arange(2**bits, dtype=np.uint8)


def log2_levels(bits: int) -> NDArray[np.uint8]:
    """Powers of two for each of 128 indices: ``q = clip(round(-log2(ratio)), 0, 2**bits - 1)``, the last code is zero.

    Args:
        bits: Width of a code; indices of one part in 127 tell apart no more than 3 bits' worth of powers and zero.

    Returns:
        uint8 ``[128]``, ``64 * 2**-q``, non-decreasing; 64 stands for a ratio of one.
    """
    last = 2**bits - 1
    ratio = np.arange(CODEBOOK_SIZE) / (CODEBOOK_SIZE - 1)
    code = np.full(CODEBOOK_SIZE, last)
    code[1:] = np.clip(np.rint(-np.log2(ratio[1:])), 0, last)
    return np.where(code < last, LOG2_UNIT >> np.minimum(code, 7), 0).astype(np.uint8)


def codebook_levels(ratios: F32, bits: int, iterations: int = 60) -> NDArray[np.uint8]:
    """Operands for each of 128 indices, with at most ``2**bits`` distinct values in ``[0, 127]``.

    Args:
        ratios: Sampled probabilities over the upper bound of their row's group, ``[samples]``; clipped to ``[0, 1]``.
        bits: Width of a code.
        iterations: Rounds of Lloyd's algorithm at most.

    Returns:
        uint8 ``[128]``, non-decreasing.
    """
    top = CODEBOOK_SIZE - 1
    grid = np.arange(CODEBOOK_SIZE, dtype=np.float64)
    index = np.clip(np.rint(ratios.ravel() * np.float32(top)), 0, top).astype(np.int64)
    mass = np.bincount(index, minlength=CODEBOOK_SIZE).astype(np.float64)
    # Squared-spaced start: dense near zero, where almost all probabilities are.
    centres = np.unique(np.rint(top * np.linspace(0, 1, 2**bits) ** 2))
    centres = np.concatenate([centres, np.setdiff1d(grid, centres)[: 2**bits - len(centres)]])
    centres.sort()
    for _ in range(iterations):
        nearest = np.abs(grid[:, None] - centres).argmin(axis=1)
        weight = np.bincount(nearest, weights=mass, minlength=len(centres))
        moment = np.bincount(nearest, weights=mass * grid, minlength=len(centres))
        moved = np.where(weight > 0, moment / np.maximum(weight, 1e-300), centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    centres = np.unique(np.rint(centres))
    nearest = np.abs(grid[:, None] - centres).argmin(axis=1)
    return centres[nearest].astype(np.uint8)
