"""How much of the error of rounding weights to nearest is left by second-order rounding.

That is a property of the layer's input, hardly of the width or the grid: the more the channels are correlated, the more
of one channel's error the others absorb.
"""

from __future__ import annotations

import numpy as np

from qcompiler.quant.moments import Matrix
from qcompiler.quant.weights import inverse_factor


def rounding_share(fitted: Matrix, held_out: Matrix, damping: float) -> float:
    """Expected squared output error of second-order rounding as a share of that of rounding to nearest.

    With rounding errors ``e`` that are independent and of equal variance the weight moves by ``M^T e``, where row i of
    ``M`` says where the error of channel i goes; the expected errors are ``tr(M H M^T)`` and ``tr(H)``.

    Args:
        fitted: Second moment of the inputs that weights are fitted to, ``[C, C]``.
        held_out: That of other inputs, ``H``: on the fitted ones themselves the share would look better than it is.
        damping: As for :func:`~qcompiler.quant.weights.second_order`.

    Returns:
        The share, in (0, 1]; 1 where an input is all zeros.
    """
    whole = float(np.trace(held_out))
    diagonal = np.diag(fitted)
    mean = float(diagonal.mean())
    if not whole or not mean:
        return 1.0
    order = np.argsort(-diagonal, kind="stable")
    moves = inverse_factor(fitted, order, damping * mean)
    moves = moves / np.diag(moves)[:, None]
    left = float(np.vdot(moves @ held_out[np.ix_(order, order)], moves))
    return min(left / whole, 1.0)
