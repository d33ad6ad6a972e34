"""Dimensions: an integer, or an integer multiple of the one unknown of a model, its batch size."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias


class UnresolvableError(Exception):
    """An expression of the batch size that is neither an integer nor a multiple of the batch size."""


@dataclass(frozen=True)
class Batch:
    """`multiple` times the batch size, which is an unknown integer of at least 1.

    Arithmetic is exact or raises `UnresolvableError`: `64 * B` divided by 16 is `4 * B`, while `B + 1` or `B // 2`
    have no value. Elements of an object array may be `Batch`, so NumPy's shape functions work on them as they are.
    """

    multiple: int

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Batch):
            raise UnresolvableError("a product of two multiples of the batch size")
        factor = _integer(other)
        return Batch(self.multiple * factor) if factor else 0

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        if isinstance(other, Batch):
            quotient, rest = divmod(self.multiple, other.multiple)
            if rest == 0:
                return quotient
            raise UnresolvableError(f"{self} / {other}")
        quotient, rest = divmod(self.multiple, _integer(other))
        if rest == 0:
            return Batch(quotient)
        raise UnresolvableError(f"{self} / {other}")

    __truediv__ = __floordiv__

    def __mod__(self, other: Any) -> int:
        divisor = other.multiple if isinstance(other, Batch) else _integer(other)
        if self.multiple % divisor == 0:
            return 0
        raise UnresolvableError(f"{self} mod {other}")

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Batch):
            total = self.multiple + other.multiple
            return Batch(total) if total else 0
        if _integer(other) == 0:
            return self
        raise UnresolvableError(f"{self} + {other}")

    __radd__ = __add__

    def __neg__(self) -> Batch:
        return Batch(-self.multiple)

    def __sub__(self, other: Any) -> Any:
        return self + (-other)

    def __rsub__(self, other: Any) -> Any:
        return (-self) + other

    def __floor__(self) -> Batch:
        return self

    def __repr__(self) -> str:
        return "B" if self.multiple == 1 else f"{self.multiple}*B"


Dim: TypeAlias = int | Batch
Shape: TypeAlias = tuple[Dim, ...]


def _integer(value: Any) -> int:
    if float(value) != int(value):
        raise UnresolvableError(f"the batch size times {value}")
    return int(value)


def _differs(multiple: int, other: Any) -> bool:
    """Whether `multiple * B` differs from a number for every batch size."""
    return other * multiple <= 0 or abs(other) < abs(multiple) or other % multiple != 0


def equal(left: Any, right: Any) -> bool:
    """Whether two elements of a shape tensor are equal.

    Raises:
        UnresolvableError: when that depends on the batch size.
    """
    if isinstance(left, Batch) and isinstance(right, Batch):
        return left.multiple == right.multiple
    if isinstance(right, Batch):
        left, right = right, left
    if not isinstance(left, Batch):
        return bool(left == right)
    if _differs(left.multiple, right):
        return False
    raise UnresolvableError(f"{left} == {right}")


def product(dims: Iterable[Dim]) -> tuple[int, int]:
    """The number of elements as `(coefficient, power of the batch size)`."""
    coefficient, power = 1, 0
    for dim in dims:
        coefficient *= dim.multiple if isinstance(dim, Batch) else int(dim)
        power += isinstance(dim, Batch)
    return coefficient, power


def collapse(dims: Iterable[Dim]) -> Dim:
    """The product of dimensions as one dimension.

    Raises:
        UnresolvableError: when two of them depend on the batch size.
    """
    coefficient, power = product(dims)
    if power > 1:
        raise UnresolvableError("a product of two multiples of the batch size")
    return Batch(coefficient) if power else coefficient


def at_batch(shape: Shape, batch: int) -> tuple[int, ...]:
    """The shape for a given batch size."""
    return tuple(dim.multiple * batch if isinstance(dim, Batch) else dim for dim in shape)


def fixed(dim: Dim) -> int:
    """The dimension as an integer.

    Raises:
        UnresolvableError: when it depends on the batch size.
    """
    if isinstance(dim, Batch):
        raise UnresolvableError(f"{dim} where a fixed size is needed")
    return int(dim)


def reshape_target(before: Shape, after: Shape) -> list[int] | None:
    """The constant second input of a Reshape between two shapes.

    Known dimensions are numbers; a multiple of the batch size is 0 where `before` has it on the same axis, else -1.

    Returns:
        The target, or None when -1 would be needed twice.
    """
    target = [
        (0 if axis < len(before) and before[axis] == dim else -1) if isinstance(dim, Batch) else int(dim)
        for axis, dim in enumerate(after)
    ]
    return target if target.count(-1) <= 1 else None


def to_text(dim: Dim, name: str) -> int | str:
    """The form written into a model: an integer, `batch` or `64*batch`."""
    if not isinstance(dim, Batch):
        return int(dim)
    return name if dim.multiple == 1 else f"{dim.multiple}*{name}"


def from_text(dim: int | str | None, name: str) -> Dim | None:
    """The inverse of `to_text`; None for an unknown dimension or another symbol."""
    if isinstance(dim, int):
        return dim
    match = re.fullmatch(rf"(?:(\d+)\*)?{re.escape(name)}", dim or "")
    return Batch(int(match.group(1) or 1)) if match else None
