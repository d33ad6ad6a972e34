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


def first_output(session: Any) -> Run:
    """The run of an onnxruntime session that returns its first output."""
    name = session.get_outputs()[0].name
    return lambda feed: session.run([name], dict(feed))[0]


def logits_of(run: Run, feed: Feed, images: int, label: str) -> npt.NDArray[np.float64]:
    """The first `images` rows of the output, [images, classes] in double precision.

    Rows behind them belong to repeated images that fill a fixed batch. Outputs of more axes count as one row an image.

    Raises:
        NonFiniteError: NaN or infinity in the output.
    """
    logits = np.asarray(run(feed), np.float64)[:images]
    if not np.isfinite(logits).all():
        raise NonFiniteError(f"the model {label!r} gives NaN or infinity: check the model and the data it is run on")
    return logits.reshape(len(logits), -1)


def standard_error(values: npt.NDArray[Any]) -> float:
    """Of the mean of independent `values`; 0 for a single one, which tells nothing about its spread."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
