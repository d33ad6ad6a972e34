"""Per-token outer scale: every row is divided by its own root mean square before channels or rows are sorted.

A row's scale is an outer scale of the product, so it costs nothing there, and a few massive tokens no longer widen
every channel's range.
"""

from __future__ import annotations

import numpy as np

from qcompiler.quant.groups import F32


def row_norm(x: F32) -> F32:
    """Root mean square of each row of ``x [..., C]``, kept at size 1; rows of zeros give 1."""
    norm = np.sqrt((x * x).mean(axis=-1, keepdims=True, dtype=np.float32))
    return np.where(norm > 0, norm, np.float32(1)).astype(np.float32)


def normalize_rows(x: F32) -> F32:
    """``x * (1 / row_norm(x))``, the order of operations of the operators."""
    return x * (np.float32(1) / row_norm(x))
