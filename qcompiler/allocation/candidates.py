"""Candidates of every layer, fitted from calibration statistics, with the error that each leaves and what it costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from qcompiler.allocation.space import InputScheme, SearchSpace
from qcompiler.ir.structure import AttentionBlock, LinearLayer
from qcompiler.quant.attention_inputs import AttentionSamples, combine, fit_attention
from qcompiler.quant.blocks import WIDEST_BLOCK_BITS, BlockQuantizer, fake_quantize_blocks, fake_quantize_values
from qcompiler.quant.bookkeeping import block_input_bops, weight_bops, weight_bytes
from qcompiler.quant.bops import assignment_bops, product_bops, range_bops
from qcompiler.quant.choices import BLOCKS, GROUPS, AttentionChoice, LinearChoice
from qcompiler.quant.fit_inputs import InputSamples, fit_input
from qcompiler.quant.groups import F32, ROWS, fake_quantize
from qcompiler.quant.inputs import LinearInput, input_error
from qcompiler.quant.plan import AttentionPlan, BlockAttentionPlan
from qcompiler.quant.planner import quantize_probability
from qcompiler.quant.sites import attention_products, linear_product, linear_site, site_bookkeeping
from qcompiler.quant.weight_grid import block_grid, channel_grid
from qcompiler.quant.weights import QuantizedWeight, round_to_nearest

ROWS_TRIED = 1024  # what the errors of inputs and weights are taken over


@dataclass(frozen=True)
class InputCandidate:
    """One way to quantize a linear layer's input; ``error`` is the relative squared error of the layer's output."""

    bits: int
    scheme: InputScheme
    item: LinearInput
    error: float
    bookkeeping: int

    @property
    def family(self) -> tuple[str, bool]:
        """Candidates of a family err in the same places: blocks, whole tokens, groups or folded channels."""
        return self.scheme.scheme, self.scheme.block > 0


@dataclass(frozen=True)
class WeightCandidate:
    """One way to quantize a linear layer's weight; ``error`` as for the input, of rounding to nearest.

    The codes are not kept: those of all candidates take several times the model's size.
    """

    bits: int
    block: int
    error: float
    bookkeeping: int
    bytes: int

    @property
    def family(self) -> bool:
        """With blocks or without."""
        return self.block > 0


@dataclass(frozen=True)
class LinearCandidates:
    """Candidates of one linear layer; its cost is taken as the sum of what either side costs alone.

    Attributes:
        layer: The layer.
        inputs: Ways to quantize its input.
        weights: Ways to quantize its weight.
        float_weight: The weight ``[C, D]``.
        power: Mean squares of the input's channels ``[C]``.
    """

    layer: LinearLayer
    inputs: tuple[InputCandidate, ...]
    weights: tuple[WeightCandidate, ...]
    float_weight: F32
    power: F32

    def quantized(self, weight: WeightCandidate) -> QuantizedWeight:
        """The weight of a candidate, rounded to nearest."""
        return nearest_weight(self.float_weight, weight.bits, weight.block, self.power)

    def choice(self, weight: WeightCandidate, found: InputCandidate) -> LinearChoice:
        """The pair as a decision."""
        scheme = found.scheme
        return LinearChoice(
            weight.bits, found.bits, weight.block, scheme.scheme, scheme.groups, scheme.block, scheme.rotate
        )

    def products(self, weight: WeightCandidate, found: InputCandidate) -> int:
        """Bit operations of the product."""
        return product_bops(linear_product(self.layer), found.bits, weight.bits)


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


def linear_candidates(
    layer: LinearLayer, samples: InputSamples, weight: F32, space: SearchSpace, *, norm: str | None, integer: bool
) -> LinearCandidates:
    """Fit every candidate of one linear layer.

    Args:
        layer: The layer.
        samples: Statistics of its input.
        weight: Its float weight ``[C, D]``.
        space: What may be chosen.
        norm: LayerNormalization in front that may take a fold, or None.
        integer: Keep channel groups on integer multiples of one base scale.
    """
    flat = samples.sample.reshape(-1, len(weight))
    rows = np.ascontiguousarray(flat[:: -(-len(flat) // ROWS_TRIED)])
    inputs = []
    for bits in space.activation_widths:
        for scheme in space.inputs(len(weight), bits, norm is not None):
            typical = min(space.weight_widths, key=lambda width: abs(width - bits))
            choice = LinearChoice(typical, bits, 0, scheme.scheme, scheme.groups, scheme.block, scheme.rotate)
            item = fit_input(choice, samples, weight, norm=norm, integer=integer)
            kept = rows if isinstance(item.quantizer, BlockQuantizer) else samples.sample
            inputs.append(
                InputCandidate(bits, scheme, item, input_error(item, kept, weight), input_bookkeeping(layer, item))
            )
    # The basis of the weight hardly moves its error: candidates are compared in that of the float network.
    power = (rows * rows).mean(axis=0)
    weights = []
    for bits in space.weight_widths:
        for block in space.weights(len(weight), bits):
            error = weight_error(rows, weight, nearest_weight(weight, bits, block, power))
            cost = weight_bops(linear_product(layer), block)
            size = weight_bytes(len(weight), weight.shape[1], bits, block)
            weights.append(WeightCandidate(bits, block, error, cost, size))
    return LinearCandidates(layer, tuple(inputs), tuple(weights), weight, power)


def nearest_weight(weight: F32, bits: int, block: int, power: F32) -> QuantizedWeight:
    """``weight [C, D]`` rounded to nearest; an input channel's error counts by its mean square ``power [C]``."""
    grid = block_grid(weight, bits, block, power) if block else channel_grid(weight, bits, power)
    return round_to_nearest(weight, grid)


def input_bookkeeping(layer: LinearLayer, item: LinearInput) -> int:
    """Bit operations of a linear layer's input quantizer besides the product."""
    if isinstance(item.quantizer, BlockQuantizer):
        return block_input_bops(linear_product(layer), item.quantizer)
    return site_bookkeeping(linear_site(layer), item.quantizer, normalize=item.normalize)


def weight_error(rows: F32, weight: F32, found: QuantizedWeight) -> float:
    """Relative squared error of the output that a quantized weight leaves on float rows ``[rows, C]``."""
    wanted = rows @ weight
    difference = rows @ (found.dequantized() - weight)
    norm = (wanted * wanted).sum(axis=1, keepdims=True)  # every token counts alike
    norm = np.where(norm > 0, norm, np.float32(1))
    return float((difference * difference / norm).sum(dtype=np.float64) / len(rows))


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
