"""Candidates of attention blocks, with the errors of their operands and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from qcompiler.allocation.space import SearchSpace
from qcompiler.ir.structure import AttentionBlock
from qcompiler.quant.attention_inputs import AttentionSamples, combine, fit_attention
from qcompiler.quant.blocks import WIDEST_BLOCK_BITS, fake_quantize_blocks, fake_quantize_values
from qcompiler.quant.bops import assignment_bops, product_bops, range_bops
from qcompiler.quant.choices import BLOCKS, GROUPS, AttentionChoice
from qcompiler.quant.groups import F32, ROWS, fake_quantize
from qcompiler.quant.plan import AttentionPlan, BlockAttentionPlan
from qcompiler.quant.planner import quantize_probability
from qcompiler.quant.sites import attention_products


@dataclass(frozen=True)
class OperandErrors:
    """Relative squared errors of the operands of one attention product, each quantized alone."""

    left: float
    right: float


@dataclass(frozen=True)
class AttentionCandidate:
    """One width for each product of an attention block.

    Attributes:
        choice: The decision.
        plan: Fitted quantizers.
        scores: Errors of queries and keys.
        mixing: Errors of probabilities and values.
        products: Bit operations of both products.
        bookkeeping: Of all four operands.
    """

    choice: AttentionChoice
    plan: AttentionPlan | BlockAttentionPlan
    scores: OperandErrors
    mixing: OperandErrors
    products: int
    bookkeeping: int


def attention_candidates(
    block: AttentionBlock, samples: AttentionSamples, space: SearchSpace
) -> tuple[AttentionCandidate, ...]:
    """Fit every candidate of one attention block."""
    fitted: dict[AttentionChoice, AttentionPlan | BlockAttentionPlan] = {}
    for bits in space.activation_widths:
        for groups in space.attention_groups:
            choice = AttentionChoice(bits, bits, GROUPS if bits > WIDEST_BLOCK_BITS else space.attention, groups)
            fitted[choice] = fit_attention(block.softmax, choice, samples)
    errors = {choice: operand_errors(plan, samples) for choice, plan in fitted.items()}
    # With blocks the two products choose their widths freely; each operand's error is known from the equal widths.
    for scores, mixing in permutations([choice for choice in fitted if choice.scheme == BLOCKS], 2):
        if scores.groups == mixing.groups:
            choice = replace(scores, value_bits=mixing.value_bits)
            left, right = fitted[scores], fitted[mixing]
            assert isinstance(left, BlockAttentionPlan) and isinstance(right, BlockAttentionPlan)
            fitted[choice] = combine(left, right)
            errors[choice] = errors[scores][0], errors[mixing][1]
    shapes = attention_products(block)
    return tuple(
        AttentionCandidate(
            choice,
            plan,
            *errors[choice],
            sum(product_bops(shape, bits, bits) for shape, bits in zip(shapes, _widths(choice), strict=True)),
            attention_bookkeeping(block, plan),
        )
        for choice, plan in fitted.items()
    )


def _widths(choice: AttentionChoice) -> tuple[int, int]:
    return choice.qk_bits, choice.value_bits


def operand_errors(
    plan: AttentionPlan | BlockAttentionPlan, samples: AttentionSamples
) -> tuple[OperandErrors, OperandErrors]:
    """Errors of queries and keys, and of probabilities and values."""
    if isinstance(plan, BlockAttentionPlan):
        query, key = (fake_quantize_blocks(x, plan.query_key) for x in (samples.query, samples.key))
        value = fake_quantize_values(samples.value, plan.value)
    else:
        query, key = fake_quantize(samples.query, plan.query), fake_quantize(samples.key, plan.key)
        value = fake_quantize(samples.value, plan.value)
    probability = quantize_probability(samples.probability, plan.probability, plan.levels)
    return (
        OperandErrors(_relative(query, samples.query), _relative(key, samples.key)),
        OperandErrors(_relative(probability, samples.probability), _relative(value, samples.value)),
    )


def _relative(found: F32, wanted: F32) -> float:
    return float(((found - wanted) ** 2).sum(dtype=np.float64) / ((wanted**2).sum(dtype=np.float64) or 1.0))


def attention_bookkeeping(block: AttentionBlock, plan: AttentionPlan | BlockAttentionPlan) -> int:
    """Bit operations of the four operands of an attention block besides the products."""
    scores, mixing = attention_products(block)
    rows = block.tokens * scores.count
    probabilities = range_bops(mixing) + assignment_bops(rows, plan.probability.count)
    if plan.probability.count == 1:
        probabilities = 0  # one static quantizer
    if isinstance(plan, BlockAttentionPlan):
        # Queries, keys and values: a range, a step and a zero point for every row of a head.
        return 3 * (range_bops(scores) + assignment_bops(rows, 1)) + probabilities
    cost = probabilities
    for table in (plan.query, plan.key, plan.value):
        if table.count > 1:
            items = rows if table.axis == ROWS else block.head_dim * scores.count
            cost += range_bops(scores) + assignment_bops(items, table.count)
    return cost
