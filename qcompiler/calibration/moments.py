"""Second moments of quantized inputs over all calibration images, in one streaming run of the float model."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import onnx
from threadpoolctl import threadpool_limits

from qcompiler.calibration.collector import activations
from qcompiler.calibration.feeds import CalibrationReader
from qcompiler.quant.groups import F32
from qcompiler.quant.inputs import LinearInput
from qcompiler.quant.moments import InputMoments

Key = TypeVar("Key", bound=Hashable)

HELD_OUT = 4  # every so many-th feed is kept for judging what the others were fitted to


class MomentAccumulator:
    """Moments of one layer's input, of the feeds to fit to and of those held out.

    Args:
        item: Quantizer of the input.
    """

    def __init__(self, item: LinearInput) -> None:
        self._item = item
        self._sums: dict[bool, list[F32]] = {}
        self._rows = {True: 0, False: 0}

    def add(self, x: F32, held_out: bool) -> None:
        """Take one batch of the input ``[..., N, C]``."""
        seen, quantized = _rows(self._item, x)
        kept = self._sums.setdefault(held_out, [])
        first = not kept
        # One after the other: a matrix of a wide layer takes as much as several layers of its model.
        for index, (left, right) in enumerate(((quantized, quantized), (quantized, seen))):
            if first:
                kept.append(left.T @ right)
            else:
                kept[index] += left.T @ right
        self._rows[held_out] += len(seen)

    def result(self) -> tuple[InputMoments, InputMoments | None]:
        """Moments to fit to, and those held out; all are for fitting where there was one feed only."""
        fitting = self._moments(False)
        held_out = self._moments(True)
        if fitting is None:
            fitting, held_out = held_out, None
        assert fitting is not None
        return fitting, held_out

    def _moments(self, held_out: bool) -> InputMoments | None:
        if held_out not in self._sums:
            return None
        gram, cross = self._sums[held_out]
        return InputMoments(gram, cross, self._rows[held_out])


def channel_energy(item: LinearInput, x: F32) -> F32:
    """Diagonal of the second moment of one batch of the quantized input, float32 ``[C]``.

    All that weights need where there are too few rows for anything else; the moments of a wide layer take far more.

    Args:
        item: Quantizer of the input.
        x: The batch ``[..., N, C]``.
    """
    _, quantized = _rows(item, x)
    found: F32 = np.einsum("rc,rc->c", quantized, quantized)
    return found


def _rows(item: LinearInput, x: F32) -> tuple[F32, F32]:
    """Float and quantized rows; images that are pooled are apart, so that each has ranges of its own."""
    return item.rows(x if x.ndim > 2 else x[:, None, :])


def collect_moments(
    model: onnx.ModelProto,
    inputs: Mapping[Key, tuple[str, LinearInput]],
    reader: CalibrationReader,
    *,
    threads: int = 0,
    progress: Callable[[int], None] = lambda _: None,
    most: int | None = None,
) -> dict[Key, tuple[InputMoments, InputMoments | None]]:
    """Run the data once.

    Args:
        model: Canonical float model.
        inputs: Tensor and quantizer of each layer's input, by a key.
        reader: The data; rewound first if it can be.
        threads: Threads of ONNX Runtime, 0 for its default.
        progress: Called with the number of images so far.
        most: Images to use; None for all.

    Returns:
        Moments to fit to and held-out moments, by the same keys.

    Raises:
        CalibrationDataError: The reader gave nothing.
        NonFiniteError: NaN or infinity in an activation, with the name of the tensor.
    """
    accumulators = {key: MomentAccumulator(item) for key, (_, item) in inputs.items()}
    tensors = list(dict.fromkeys(tensor for tensor, _ in inputs.values()))
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool, threadpool_limits(1):
        for number, (images, values) in enumerate(activations(model, tensors, reader, threads)):
            held_out = number % HELD_OUT == HELD_OUT - 1

            def add(key: Key, values: Mapping[str, F32] = values, held_out: bool = held_out) -> None:
                accumulators[key].add(values[inputs[key][0]], held_out)

            list(pool.map(add, inputs))
            progress(images)
            if most is not None and images >= most:
                break
    return {key: accumulator.result() for key, accumulator in accumulators.items()}
