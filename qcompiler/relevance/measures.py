"""How far a prediction and a layer's output are from the float ones."""

from __future__ import annotations

import math

import numpy as np

from qcompiler.quant.divergence import kl_divergence
from qcompiler.quant.groups import F32


def mean_kl(reference: F32, logits: F32) -> float:
    """Mean over images of ``KL(softmax(reference) || softmax(logits))``, in nats; both ``[images, ...]``."""
    expected, found = (x.reshape(len(x), -1).astype(np.float64) for x in (reference, logits))
    return float(kl_divergence(expected, found).mean())


class RelativeError:
    """``sum (y - y_float)^2 / sum y_float^2`` over batches, summed in double precision."""

    def __init__(self) -> None:
        self._difference = 0.0
        self._reference = 0.0

    def add(self, reference: F32, found: F32) -> None:
        """One batch; both tensors have the same shape."""
        exact = reference.astype(np.float64)
        difference = found - exact
        self._difference += float((difference * difference).sum())
        self._reference += float((exact * exact).sum())

    @property
    def value(self) -> float:
        """The ratio; a tensor that is zero in float has error 0 where it stays zero, else infinity."""
        if self._reference == 0:
            return math.inf if self._difference else 0.0
        return self._difference / self._reference
