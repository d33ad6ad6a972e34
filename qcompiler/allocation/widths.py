"""Uniform widths under the bit-operation budget."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from qcompiler.errors import BudgetError, OptionError
from qcompiler.quant.bops import ProductShape, product_bops
from qcompiler.quant.plan import Widths

# From best to cheapest: what a budget buys when the widths are free.
UNIFORM_WIDTHS = (Widths(8, 8), Widths(6, 6), Widths(4, 8), Widths(4, 4), Widths(3, 3))
NARROWEST, WIDEST = 2, 8


@dataclass(frozen=True)
class LayerProduct:
    """One integer product whose widths are free to choose.

    Attributes:
        name: Name of the layer it belongs to.
        shape: Its size per image.
        weights: Whether the right operand is a constant weight; otherwise both operands are activations.
    """

    name: str
    shape: ProductShape
    weights: bool

    def bops(self, widths: Widths) -> int:
        """Bit operations at ``widths``."""
        return product_bops(self.shape, widths.activation, widths.weight if self.weights else widths.activation)


def parse_widths(text: str) -> Widths:
    """``w4a8`` as widths.

    Raises:
        OptionError: Another spelling, or a width outside 2..8.
    """
    match = re.fullmatch(r"w(\d+)a(\d+)", text.strip().lower())
    if match is None:
        raise OptionError(f"widths '{text}' are not of the form w4a4 (weight bits, activation bits)")
    widths = Widths(int(match[1]), int(match[2]))
    if not all(NARROWEST <= bits <= WIDEST for bits in (widths.weight, widths.activation)):
        raise OptionError(f"widths '{text}' are outside {NARROWEST}..{WIDEST} bits")
    return widths


def fraction_of_w8a8(products: Sequence[LayerProduct], widths: Widths) -> float:
    """Bit operations of the products at ``widths`` as a fraction of the same products at 8 x 8 bits."""
    whole = sum(product.bops(Widths(8, 8)) for product in products)
    return sum(product.bops(widths) for product in products) / whole


def choose_uniform(products: Sequence[LayerProduct], budget: float) -> Widths:
    """The most accurate uniform widths whose products fit the budget.

    Args:
        products: Products whose widths are free.
        budget: Fraction of the W8A8 bit operations (``--bop-budget``).

    Raises:
        BudgetError: Not even the cheapest widths fit; the message names the smallest budget that can be met.
    """
    check_affordable(products, budget, UNIFORM_WIDTHS[-1])
    return next(widths for widths in UNIFORM_WIDTHS if fraction_of_w8a8(products, widths) <= budget * (1 + 1e-9))


def check_affordable(products: Sequence[LayerProduct], budget: float, cheapest: Widths) -> None:
    """Refuse a budget that does not even pay for the cheapest widths.

    Args:
        products: Products whose widths are free.
        budget: Fraction of the W8A8 bit operations (``--bop-budget``).
        cheapest: Narrowest widths that may be chosen.

    Raises:
        BudgetError: The message names the smallest budget that can be met.
    """
    least = fraction_of_w8a8(products, cheapest)
    if least > budget * (1 + 1e-9):
        raise BudgetError(
            f"no configuration meets --bop-budget {budget:g}: the cheapest ({cheapest}) needs {least:.4f} of W8A8; "
            f"give --bop-budget {_ceiling(least)} or more"
        )


def _ceiling(value: float) -> str:
    """``value`` rounded up to four places, so that the budget the message names can really be met."""
    return f"{-(-value * 10000 // 1) / 10000:g}"
