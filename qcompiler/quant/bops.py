"""Bit operations: what products cost at given widths, and what the groups' bookkeeping adds (IGQ-ViT's budget)."""

from __future__ import annotations

from dataclasses import dataclass

FLOAT_BITS = 32


@dataclass(frozen=True)
class ProductShape:
    """One integer product ``[rows, inner] x [inner, outputs]``, repeated ``count`` times per image."""

    rows: int
    inner: int
    outputs: int
    count: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates per image."""
        return self.rows * self.inner * self.outputs * self.count


@dataclass(frozen=True)
class BitOperations:
    """Bit operations of one image, split as budgets need them.

    Attributes:
        products: Integer products of the layers whose widths are free to choose.
        bookkeeping: Ranges, assignment and rescaling of their groups.
        fixed: Products and bookkeeping of the layers that ``--first-last-bits`` fixes.
        products_w8a8: The free products if all ran at 8 x 8 bits.
        float32: Every product, free and fixed, at 32 x 32 bits.
    """

    products: int
    bookkeeping: int
    fixed: int
    products_w8a8: int
    float32: int

    @property
    def total(self) -> int:
        """Everything together."""
        return self.products + self.bookkeeping + self.fixed

    @property
    def fraction_of_w8a8(self) -> float:
        """What ``--bop-budget`` limits."""
        return self.products / self.products_w8a8 if self.products_w8a8 else 0.0

    @property
    def overhead(self) -> float:
        """What ``--overhead-budget`` limits: the bookkeeping as a share of the products."""
        return self.bookkeeping / self.products if self.products else 0.0

    @property
    def fraction_of_float(self) -> float:
        """The whole as a fraction of float32."""
        return self.total / self.float32 if self.float32 else 0.0

    def to_dict(self) -> dict[str, int | float]:
        """Counts and fractions for the report."""
        return {
            "products": self.products,
            "bookkeeping": self.bookkeeping,
            "fixed": self.fixed,
            "total": self.total,
            "fraction_of_w8a8": self.fraction_of_w8a8,
            "overhead": self.overhead,
            "fraction_of_float": self.fraction_of_float,
        }


def product_bops(shape: ProductShape, left_bits: int, right_bits: int) -> int:
    """``N C D bw ba`` of one kind of product."""
    return shape.macs * left_bits * right_bits


def range_bops(shape: ProductShape) -> int:
    """``32 N C``: minimum and maximum of every item of the left operand."""
    return FLOAT_BITS * shape.rows * shape.inner * shape.count


def assignment_bops(items: int, groups: int) -> int:
    """``32 items g``: the distance of every item to every group."""
    return FLOAT_BITS * items * groups


def segment_bops(shape: ProductShape, groups: int) -> int:
    """``N D g 32``: one rescale-accumulate per output and group, when a product runs as sorted segments."""
    return FLOAT_BITS * shape.rows * shape.outputs * groups * shape.count
