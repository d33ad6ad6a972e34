"""How far one prediction is from another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


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
