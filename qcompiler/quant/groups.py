"""Instance-aware group quantizers: the table of groups, the assignment, and the quantizer's arithmetic.

An *item* is a channel (``axis=-1``) or a row (``axis=-2``) of one instance of ``X [..., N, C]``; an instance is one
index of all leading axes. Items are sorted at run time into the group whose bounds are nearest to the item's own range.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcompiler.errors import OptionError

F32 = NDArray[np.float32]

CHANNELS, ROWS = -1, -2
COLUMNS = ("lower", "upper", "scale", "zero_point", "multiplier", "outer")
OPERAND_LIMIT = 127  # operands of a signed 8-bit product, symmetric so that negation and abs never overflow


@dataclass(frozen=True)
class GroupTable:
    """One group quantizer; every field is a float32 vector with one entry per group.

    Attributes:
        lower: Lower bound of the group in the (min, max) plane, used by the assignment only.
        upper: Upper bound, likewise.
        scale: Step of the codes, in units of the activation.
        zero_point: Code of zero, an integer in ``[0, 2**bits - 1]``.
        multiplier: What ``code - zero_point`` is multiplied by to give the operand of the product.
        outer: What an operand is multiplied by to give the activation back; ``multiplier * outer = scale``.
        axis: ``CHANNELS`` (-1) or ``ROWS`` (-2): what an item is.
        bits: Width of a code.
    """

    lower: F32
    upper: F32
    scale: F32
    zero_point: F32
    multiplier: F32
    outer: F32
    axis: int
    bits: int

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(self.scale)

    @property
    def exact(self) -> bool:
        """Whether the scales are free, so that a product needs one accumulator per group (sorted segments).

        Free scales that all happen to be small integers are integer multiples of 1 as well, and run as such.
        """
        reach = np.maximum(self.zero_point, 2**self.bits - 1 - self.zero_point) * self.multiplier
        multiples = np.all(self.multiplier == np.rint(self.multiplier)) and np.all(reach <= OPERAND_LIMIT)
        return self.axis == CHANNELS and bool(np.all(self.outer == 1)) and not bool(multiples)

    def to_array(self) -> F32:
        """The table as the operators take it: float32 ``[groups, 6]``, columns as in ``COLUMNS``."""
        return np.stack([getattr(self, name) for name in COLUMNS], axis=1).astype(np.float32)

    @classmethod
    def from_array(cls, array: F32, axis: int, bits: int) -> GroupTable:
        """Inverse of :meth:`to_array`.

        Raises:
            OptionError: The array is not ``[groups, 6]``.
        """
        if array.ndim != 2 or array.shape[1] != len(COLUMNS):
            raise OptionError(f"a group table has shape [groups, {len(COLUMNS)}], not {list(array.shape)}")
        columns = {name: np.ascontiguousarray(array[:, i], np.float32) for i, name in enumerate(COLUMNS)}
        return cls(**columns, axis=axis, bits=bits)


def item_ranges(x: F32, axis: int) -> tuple[F32, F32]:
    """Minimum and maximum of every item of ``x [..., N, C]``, with the reduced axis kept at size 1."""
    reduced = -2 if axis == CHANNELS else -1
    return x.min(axis=reduced, keepdims=True), x.max(axis=reduced, keepdims=True)


def assign(minimum: F32, maximum: F32, lower: F32, upper: F32) -> NDArray[np.intp]:
    """Nearest group of each item: ``argmin_i (M - u_i)^2 + (m - l_i)^2``, the lowest index on ties (IGQ-ViT).

    Args:
        minimum: Minimum of each item, any shape.
        maximum: Maximum of each item, the same shape.
        lower: Lower bounds ``[groups]``.
        upper: Upper bounds ``[groups]``.

    Returns:
        Group index of each item, in the shape of ``minimum``.
    """
    above = maximum[..., None] - upper
    below = minimum[..., None] - lower
    return np.asarray(np.argmin(above * above + below * below, axis=-1))


def codes(x: F32, index: NDArray[np.intp], table: GroupTable) -> NDArray[np.uint8]:
    """Codes ``clip(rint(x * (1 / scale)) + zero_point, 0, 2**bits - 1)`` of ``x``, item by item (half to even)."""
    inverse = np.float32(1) / table.scale
    shifted = np.rint(x * inverse[index]) + table.zero_point[index]
    return np.clip(shifted, 0, 2**table.bits - 1).astype(np.uint8)


def operands(q: NDArray[np.uint8], index: NDArray[np.intp], table: GroupTable) -> F32:
    """Operands ``multiplier * (code - zero_point)`` of the product, as float32 integers unless the table is exact."""
    return (q.astype(np.float32) - table.zero_point[index]) * table.multiplier[index]


def fake_quantize(x: F32, table: GroupTable) -> F32:
    """``x`` as the quantized network sees it: sorted, quantized and read back; shape and dtype of ``x``."""
    index = assign(*item_ranges(x, table.axis), table.lower, table.upper)
    return operands(codes(x, index, table), index, table) * table.outer[index]
