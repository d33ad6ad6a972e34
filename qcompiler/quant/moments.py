"""Second moments of a linear layer's quantized input: all that integer weights are fitted from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class InputMoments:
    """Moments over quantizer rows, see :class:`qcompiler.quant.inputs.LinearInput`.

    They may be float32, half the memory of a whole model's: what is computed from them is computed in float64.

    Attributes:
        gram: ``quantized^T quantized``, ``[C, C]``.
        cross: ``quantized^T float``, ``[C, C]``.
        rows: Rows that they were taken over.
    """

    gram: Matrix
    cross: Matrix
    rows: int

    def excess_error(self, weight: Matrix, quantized: Matrix) -> float:
        """Squared error of the output less the constant part of it, ``|Q W' - X W|^2 - |X W|^2``: for comparisons.

        Args:
            weight: Float weight ``[C, D]`` of the float rows.
            quantized: Weight of the quantized rows ``[C, D]``.
        """
        w, v = weight.astype(np.float64), quantized.astype(np.float64)
        return float(np.vdot(v, self.gram @ v) - 2 * np.vdot(v, self.cross @ w))
