"""Second moments of the float inputs of layers, of images to fit to and of others."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
from threadpoolctl import threadpool_limits

from qcompiler.calibration.collector import activations
from qcompiler.calibration.inputs import Feed
from qcompiler.calibration.moments import HELD_OUT
from qcompiler.calibration.tensor_batches import TensorBatches
from qcompiler.quant.groups import F32
from qcompiler.quant.moments import Matrix
from qcompiler.quant.row_norm import normalize_rows

Powers = tuple[Matrix, Matrix]


def collect_powers(
    model: onnx.ModelProto, tensors: Sequence[str], feeds: Sequence[Feed], threads: int = 0
) -> dict[str, Powers]:
    """``X^T X`` of every tensor, its rows divided by their root mean square.

    Args:
        model: Canonical float model.
        tensors: Inputs of linear layers, ``[..., C]``.
        feeds: Images; every so many-th feed is held out.
        threads: Threads of ONNX Runtime, 0 for its default.

    Returns:
        Sum over the images to fit to and over those held out, float32 ``[C, C]``, by tensor; both are over all feeds
        where there are too few of them.
    """
    sums: dict[tuple[str, bool], F32] = {}
    apart = len(feeds) >= HELD_OUT

    def add(name: str, values: Mapping[str, F32], held_out: bool) -> None:
        rows = normalize_rows(values[name]).reshape(-1, values[name].shape[-1])
        key = (name, held_out)
        if key in sums:
            sums[key] += rows.T @ rows
        else:
            sums[key] = rows.T @ rows

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool, threadpool_limits(1):
        reader = TensorBatches(list(feeds), name="")
        for number, (_, values) in enumerate(activations(model, tensors, reader, threads)):
            held_out = apart and number % HELD_OUT == HELD_OUT - 1
            list(pool.map(lambda name, values=values, held=held_out: add(name, values, held), tensors))
    return {name: (sums[name, False], sums.get((name, True), sums[name, False])) for name in tensors}


def matrix_bytes(channels: int) -> int:
    """Of both matrices of one tensor."""
    return 2 * channels * channels * np.dtype(np.float32).itemsize
