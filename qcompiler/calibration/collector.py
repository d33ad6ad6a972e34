"""One streaming run of the calibration data through the float model answers every request for statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort

from qcompiler.calibration.accumulators import Accumulator, InstanceSample, ItemRanges, Normalized, SecondMoment
from qcompiler.calibration.feeds import CalibrationReader
from qcompiler.calibration.statistics import Request, Statistics, model_hash
from qcompiler.errors import CalibrationDataError, NonFiniteError
from qcompiler.ir.outputs import with_outputs


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
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    names = [request.tensor for request in requests]
    session = ort.InferenceSession(
        with_outputs(model, names).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    accumulators = {request.tensor: _accumulators(request) for request in requests}
    images = 0
    rewind = getattr(reader, "rewind", None)
    if rewind is not None:
        rewind()
    while (feed := reader.get_next()) is not None:
        for name, value in zip(names, session.run(names, feed), strict=True):
            # A sum is finite unless an entry is not (overflow aside, which is no better news): cheaper than isfinite.
            with np.errstate(invalid="ignore", over="ignore"):  # the answer is an error of our own
                total = value.sum(dtype=np.float64)
            if not np.isfinite(total):
                held = len(next(iter(feed.values())))
                finite = np.isfinite(value).reshape(held, -1).all(axis=1)  # windows of one image lie together
                raise NonFiniteError(
                    f"activation '{name}' holds NaN or infinity on calibration image {images + 1 + finite.argmin()}: "
                    "check the model in float32 and the preprocessing"
                )
            for accumulator in accumulators[name]:
                accumulator.add(value)
        images += len(next(iter(feed.values())))
        progress(images)
    if images == 0:
        raise CalibrationDataError("the calibration data is empty: give at least one image")
    tensors = {
        name: {key: array for item in items for key, array in item.result().items()}
        for name, items in accumulators.items()
    }
    return Statistics(tensors, images, dict(source or {}), model_hash(model))


def _accumulators(request: Request) -> list[Accumulator]:
    found: list[Accumulator] = [ItemRanges(axis) for axis in request.axes]
    if request.sample:
        found.append(InstanceSample())
    if request.normalize:
        found = [Normalized(*found)]
    if request.moment:
        found.append(SecondMoment())
    return found
