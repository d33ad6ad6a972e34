"""How tightly the codes of a block cover its range, chosen by the error left on calibration samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from qcompiler.quant.blocks import BlockQuantizer, fake_quantize_blocks, rotate_rows, rotate_weight
from qcompiler.quant.groups import F32
from qcompiler.quant.row_norm import row_norm

CLIPS = (0.97, 0.93)
SLACKS = (0.0, 0.1, 0.2, 0.35, 0.5)
ROWS_TRIED = 256


def fit_block_quantizer(x: F32, bits: int, block: int, rotate: int, weight: F32 | None = None) -> BlockQuantizer:
    """Clip and slack of least error.

    Args:
        x: Sample of the input ``[..., N, C]``.
        bits: Width of the codes, at most 7.
        block: Channels of one block; divides C.
        rotate: Channels that are rotated together; 1 for none.
        weight: Float weight ``[C, D]`` that the input is multiplied by: a channel's error counts by the energy of its
            row. None counts all channels alike.
    """
    rows = x.reshape(-1, x.shape[-1])
    rotated = rotate_rows(np.ascontiguousarray(rows[:: -(-len(rows) // ROWS_TRIED)]), rotate)
    inverse = np.float32(1) / row_norm(rotated)
    basis = None if weight is None else rotate_weight(weight, rotate)
    importance = np.ones(x.shape[-1], np.float32) if basis is None else np.einsum("cd,cd->c", basis, basis)

    def error(quantizer: BlockQuantizer) -> float:
        difference = (fake_quantize_blocks(rotated, quantizer) - rotated) * inverse
        return float((difference * difference).sum(axis=0) @ importance)

    return replace(_least(error, BlockQuantizer(bits, block)), rotate=rotate)


def _least(error: Callable[[BlockQuantizer], float], plain: BlockQuantizer) -> BlockQuantizer:
    """The best slack where nothing is clipped, then the best clip with it: nearly the best pair at half the cost."""
    loose = min((replace(plain, slack=slack) for slack in SLACKS), key=error)
    return min((loose, *(replace(loose, clip=clip) for clip in CLIPS)), key=error)
