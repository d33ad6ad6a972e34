"""Empirical bias correction of predictions: the mean of what quantization does to them is known and taken back.

The mean error of a prediction is estimated on images and added to the bias of the layer that writes it. It is trusted
only where it helps on images that it was not estimated from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcompiler.quant.divergence import kl_divergence
from qcompiler.quant.groups import F32

F64 = NDArray[np.float64]


def cross_corrected_kl(reference: F32 | F64, found: F32 | F64) -> float:
    """Divergence of corrected predictions, each half of the images corrected by the mean error of the other.

    Args:
        reference: Float predictions ``[images, classes]``.
        found: Quantized predictions of the same images.

    Returns:
        Mean of ``KL(softmax(reference) || softmax(corrected))`` in nats; infinity for a single image.
    """
    expected, given = reference.astype(np.float64), found.astype(np.float64)
    if len(given) < 2:
        return float("inf")
    error = expected - given
    corrected = np.empty_like(given)
    for half in (0, 1):
        corrected[half::2] = given[half::2] + error[1 - half :: 2].mean(axis=0)
    return float(kl_divergence(expected, corrected).mean())


def corrected_kl(reference: F32 | F64, found: F32 | F64) -> float:
    """Mean divergence in nats after the correction, or before where it does not help; both ``[images, classes]``."""
    return min(_mean_kl(reference, found), cross_corrected_kl(reference, found))


def bias_correction(reference: F32 | F64, found: F32 | F64) -> F32 | None:
    """What to add to the bias of a layer that writes predictions.

    Args:
        reference: Float predictions ``[images, classes]``.
        found: Quantized predictions of the same images.

    Returns:
        The mean error ``[classes]``; None where half of the images show that it does not help the other half.
    """
    if cross_corrected_kl(reference, found) >= _mean_kl(reference, found):
        return None
    return (reference.astype(np.float64) - found).mean(axis=0).astype(np.float32)


def _mean_kl(reference: F32 | F64, found: F32 | F64) -> float:
    return float(kl_divergence(reference.astype(np.float64), found.astype(np.float64)).mean())
