"""What evaluation runs: callables from a feed to logits, and the error of a mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.errors import NonFiniteError

Feed = Mapping[str, npt.NDArray[Any]]
Run = Callable[[Feed], npt.NDArray[Any]]
"""Feed -> logits [batch, classes]."""
RunAll = Callable[[Feed], Mapping[str, npt.NDArray[Any]]]
"""Feed -> outputs by name."""

_FLOAT = ("tensor(float)", "tensor(double)", "tensor(float16)")


def first_output(session: Any) -> Run:
    """The run of an onnxruntime session that returns its first output."""
    name = session.get_outputs()[0].name
    return lambda feed: session.run([name], dict(feed))[0]


def float_outputs(session: Any) -> RunAll:
    """The run of an onnxruntime session that returns all its float outputs, or the first one where it has none."""
    outputs = session.get_outputs()
    names = [output.name for output in outputs if output.type in _FLOAT] or [outputs[0].name]
    return lambda feed: dict(zip(names, session.run(names, dict(feed)), strict=True))


def outputs_of(run: RunAll, feed: Feed, images: int, label: str) -> dict[str, npt.NDArray[np.float64]]:
    """What the outputs hold of the first `images` images, in double precision.

    An output has the same number of rows for every image of the feed; one that has not (say a constant) is taken whole.

    Raises:
        NonFiniteError: NaN or infinity in an output.
    """
    held = len(next(iter(feed.values())))
    found = {}
    for name, output in run(feed).items():
        values = np.asarray(output, np.float64)
        if values.ndim and len(values) % held == 0:
            values = values[: len(values) // held * images]
        found[name] = _finite(values, f"{label!r}, output {name!r},")
    return found


def logits_of(run: Run, feed: Feed, images: int, label: str) -> npt.NDArray[np.float64]:
    """The first `images` rows of the output, [images, classes] in double precision.

    Rows behind them belong to repeated images that fill a fixed batch. Outputs of more axes count as one row an image.

    Raises:
        NonFiniteError: NaN or infinity in the output.
    """
    logits = np.asarray(run(feed), np.float64)[:images]
    return _finite(logits, repr(label)).reshape(len(logits), -1)


def _finite(values: npt.NDArray[np.float64], label: str) -> npt.NDArray[np.float64]:
    if not np.isfinite(values).all():
        raise NonFiniteError(f"the model {label} gives NaN or infinity: check the model and the data it is run on")
    return values


def standard_error(values: npt.NDArray[Any]) -> float:
    """Of the mean of independent `values`; 0 for a single one, which tells nothing about its spread."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
