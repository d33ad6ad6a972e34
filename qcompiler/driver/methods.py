"""What each method searches, and what its losses are made of."""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.allocation.space import (
    ALL_WIDTHS,
    BLOCK_SCHEMES,
    GROUP_SCHEMES,
    QUICK_SCHEMES,
    QUICK_WEIGHT_BLOCKS,
    TOKEN_SCHEMES,
    WEIGHT_BLOCKS,
    WHOLE_TOKENS,
    InputScheme,
    SearchSpace,
    widths_around,
)
from qcompiler.allocation.widths import LayerProduct, check_affordable, choose_uniform, parse_widths
from qcompiler.driver.effort import LEVELS
from qcompiler.options import DEFAULT_BOP_BUDGET, CompileOptions
from qcompiler.quant.choices import BLOCKS, GROUPS
from qcompiler.quant.plan import Widths

HALF_BYTE = 4  # bits of a weight: the smallest that a file stores
TIMED_WIDTHS = tuple(bits for bits in ALL_WIDTHS if bits >= HALF_BYTE)  # no processor is faster below
TIMED_CENTRE = Widths(6, 6)


@dataclass(frozen=True)
class Method:
    """One way to search.

    Attributes:
        space: What a layer may choose from.
        centre: Uniform widths that the budget pays for: sensitivities are measured around them.
        relevance: Losses are weighted by relevance.
        sensitivity: Losses are measured; otherwise an error costs as much as its layer is relevant.
        exhaustive: Every candidate is measured, whatever the effort (IGQ-ViT's discrepancies).
        refine: The plan is tried out and improved.
    """

    space: SearchSpace
    centre: Widths
    relevance: bool
    sensitivity: bool
    exhaustive: bool = False
    refine: bool = False


def method_of(options: CompileOptions, products: list[LayerProduct]) -> Method:
    """The method that the options ask for.

    Raises:
        BudgetError: The budget is below the cheapest widths.
        OptionError: ``--bits`` cannot be read.
    """
    budget = options.product_budget
    by_time = budget is None and options.latency_budget is not None  # widths as wide as the time allows
    if budget is None:
        budget = DEFAULT_BOP_BUDGET
    if options.method == "igq" or options.bits is not None:
        centre = choose_uniform(products, budget) if options.bits is None else parse_widths(options.bits)
        weight_widths: tuple[int, ...] = (centre.weight,)
        activation_widths: tuple[int, ...] = (centre.activation,)
    elif by_time:
        weight_widths = activation_widths = TIMED_WIDTHS
        centre = TIMED_CENTRE
    else:
        widths = widths_around(budget, LEVELS[options.effort].neighbours)
        check_affordable(products, budget, Widths(min(widths), min(widths)))
        paid = max((bits for bits in widths if bits * bits <= 64 * budget * (1 + 1e-9)), default=widths[0])
        centre = Widths(paid, paid)
        weight_widths = activation_widths = widths
        if options.size_budget is not None:  # which may need narrower weights than the products do
            weight_widths = tuple(bits for bits in ALL_WIDTHS if min(HALF_BYTE, widths[0]) <= bits <= widths[-1])
    if options.method == "igq":
        schemes = tuple(InputScheme(GROUPS, groups=count) for count in options.group_candidates)
        space = SearchSpace(
            weight_widths, activation_widths, schemes, attention=GROUPS, attention_groups=options.group_candidates
        )
        return Method(space, centre, relevance=False, sensitivity=True, exhaustive=True)
    if options.method in ("mixq", "lrp"):
        space = SearchSpace(
            weight_widths, activation_widths, WHOLE_TOKENS, folded=True, attention=BLOCKS, attention_groups=(1,)
        )
        return Method(space, centre, relevance=True, sensitivity=options.method == "mixq", refine=True)
    if options.strict_bits:
        space = SearchSpace(weight_widths, activation_widths, TOKEN_SCHEMES + GROUP_SCHEMES)
    else:
        quick = options.effort == "low"
        schemes = QUICK_SCHEMES if quick else BLOCK_SCHEMES + TOKEN_SCHEMES
        blocks = QUICK_WEIGHT_BLOCKS if quick else WEIGHT_BLOCKS
        space = SearchSpace(weight_widths, activation_widths, schemes, blocks)
    measured = options.effort != "low"
    return Method(space, centre, relevance=not measured, sensitivity=measured, refine=True)
