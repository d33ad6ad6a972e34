"""What evaluation runs: callables from a feed to logits, and the measures of one output against another."""

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


def log_softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Row-wise logarithm of the softmax of [images, classes]."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def kl_divergence(reference: npt.NDArray[np.float64], candidate: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`KL(softmax(reference) || softmax(candidate))` for each row of [images, classes], in nats, at least 0."""
    expected, found = log_softmax(reference), log_softmax(candidate)
    result: npt.NDArray[np.float64] = (np.exp(expected) * (expected - found)).sum(axis=-1)
    return np.maximum(result, 0.0)  # rounding leaves tiny negative values where both agree


def standard_error(values: npt.NDArray[Any]) -> float:
    """Of the mean of independent `values`; 0 for a single one, which tells nothing about its spread."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
