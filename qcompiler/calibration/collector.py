"""One streaming run of the calibration data through the float model answers every request for statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx

from qcompiler.calibration.accumulators import Accumulator, InstanceSample, ItemRanges, Normalized
from qcompiler.calibration.feeds import CalibrationReader
from qcompiler.calibration.float_session import float_session
from qcompiler.calibration.statistics import Request, Statistics, model_hash
from qcompiler.errors import CalibrationDataError, NonFiniteError
from qcompiler.ir.outputs import with_outputs
from qcompiler.quant.groups import F32


def collect(
    model: onnx.ModelProto,
    requests: Sequence[Request],
    reader: CalibrationReader,
    *,
    threads: int = 0,
    source: Mapping[str, object] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Statistics:
    """Run the data once and answer all requests.

    Args:
        model: Canonical float model.
        requests: What to keep, at most one request per tensor.
        reader: The data; rewound first if it can be.
        threads: Threads of ONNX Runtime, 0 for its default.
        source: Provenance of the data, kept with the statistics.
        progress: Called with the number of images so far.

    Returns:
        The statistics; their size does not depend on the number of images.

    Raises:
        CalibrationDataError: The reader gave nothing.
        NonFiniteError: NaN or infinity in an activation, with the name of the tensor.
    """
    names = [request.tensor for request in requests]
    accumulators = {request.tensor: _accumulators(request) for request in requests}
    images = 0
    for images, values in activations(model, names, reader, threads):
        for name, value in values.items():
            for accumulator in accumulators[name]:
                accumulator.add(value)
        progress(images)
    tensors = {
        name: {key: array for item in items for key, array in item.result().items()}
        for name, items in accumulators.items()
    }
    return Statistics(tensors, images, dict(source or {}), model_hash(model))


def activations(
    model: onnx.ModelProto, tensors: Sequence[str], reader: CalibrationReader, threads: int = 0
) -> Iterator[tuple[int, dict[str, F32]]]:
    """Run the data through the model, one feed after the other.

    Args:
        model: Canonical float model.
        tensors: Names of the tensors wanted.
        reader: The data; rewound first if it can be.
        threads: Threads of ONNX Runtime, 0 for its default.

    Yields:
        Number of images so far, and the tensors of the newest feed by name.

    Raises:
        CalibrationDataError: The reader gave nothing.
        NonFiniteError: NaN or infinity in an activation, with the name of the tensor.
    """
    session = float_session(with_outputs(model, tensors), threads)
    images = 0
    rewind = getattr(reader, "rewind", None)
    if rewind is not None:
        rewind()
    while (feed := reader.get_next()) is not None:
        values = dict(zip(tensors, session.run(list(tensors), feed), strict=True))
        held = len(next(iter(feed.values())))
        for name, value in values.items():
            _check_finite(name, value, images, held)
        images += held
        yield images, values
    if images == 0:
        raise CalibrationDataError("the calibration data is empty: give at least one image")


def _check_finite(name: str, value: F32, images: int, held: int) -> None:
    # A sum is finite unless an entry is not (overflow aside, which is no better news): cheaper than isfinite.
    with np.errstate(invalid="ignore", over="ignore"):  # the answer is an error of our own
        total = value.sum(dtype=np.float64)
    if not np.isfinite(total):
        finite = np.isfinite(value).reshape(held, -1).all(axis=1)  # windows of one image lie together
        raise NonFiniteError(
            f"activation '{name}' holds NaN or infinity on calibration image {images + 1 + finite.argmin()}: "
            "check the model in float32 and the preprocessing"
        )


def _accumulators(request: Request) -> list[Accumulator]:
    ranges = [ItemRanges(axis) for axis in request.axes]
    found: list[Accumulator] = [Normalized(*ranges)] if request.normalize else [*ranges]
    if request.sample:
        found.append(InstanceSample())
    return found
