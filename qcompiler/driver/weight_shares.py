"""How much of a predicted loss of rounded weights is left once they are fitted as the final weights are."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import onnx
from threadpoolctl import threadpool_limits

from qcompiler.calibration.input_powers import Powers, collect_powers, matrix_bytes
from qcompiler.calibration.inputs import Feed
from qcompiler.driver.memory_gate import MemoryGate
from qcompiler.driver.memory_parts import memory_parts
from qcompiler.quant.rounding_share import rounding_share
from qcompiler.quant.weights import damping_for

HELD_BYTES = 1 << 29  # most that second moments take at a time, and most that is worked with beside them
COPIES = 4  # of both matrices of a layer: factor, moves and their product are float64


def weight_shares(
    model: onnx.ModelProto,
    inputs: Mapping[str, tuple[str, int]],
    feeds: Sequence[Feed],
    threads: int,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Share of the error of rounding to nearest that second-order rounding leaves, for every layer.

    Args:
        model: Canonical float model.
        inputs: Tensor and channels of each layer's input, by the layer's name.
        feeds: Images that it is measured on.
        threads: Threads, 0 for all cores.
        advance: Called after every layer.
    """
    found: dict[str, float] = {}
    gate = MemoryGate(HELD_BYTES)
    sizes = {name: matrix_bytes(channels) for name, (_, channels) in inputs.items()}

    def share(name: str, powers: Mapping[str, Powers]) -> float:
        with gate.hold(COPIES * sizes[name]):
            fitted, held_out = powers[inputs[name][0]]
            rows = float(np.trace(fitted)) / len(fitted)  # their mean square is one
            result = rounding_share(fitted, held_out, damping_for(rows, len(fitted)) if rows else 0.0)
        advance()
        return result

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for part in memory_parts(sizes, HELD_BYTES):
            powers = collect_powers(model, list({inputs[name][0]: None for name in part}), feeds, threads)
            with threadpool_limits(1):
                shares = pool.map(partial(share, powers=powers), part)
                found.update(zip(part, shares, strict=True))
    return found
