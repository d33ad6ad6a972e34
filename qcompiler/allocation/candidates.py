"""Candidates of every layer, fitted from calibration statistics, with the error that each leaves and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qcompiler.allocation.space import InputScheme, SearchSpace
from qcompiler.allocation.weight_basis import WeightBasis
from qcompiler.ir.structure import LinearLayer
from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.bookkeeping import block_input_bops, weight_bops, weight_bytes
from qcompiler.quant.bops import product_bops
from qcompiler.quant.choices import LinearChoice
from qcompiler.quant.fit_inputs import InputSamples, fit_input
from qcompiler.quant.groups import F32
from qcompiler.quant.inputs import LinearInput, input_error
from qcompiler.quant.sites import linear_product, linear_site, site_bookkeeping

ROWS_TRIED, OUTPUTS_TRIED = 1024, 768  # at most, what the errors of inputs and weights are taken over


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
        bases: In which weights of a width are rounded, by the width.
    """

    layer: LinearLayer
    inputs: tuple[InputCandidate, ...]
    weights: tuple[WeightCandidate, ...]
    float_weight: F32
    bases: Mapping[int, WeightBasis]

    def rounded(self, weight: WeightCandidate) -> F32:
        """The weight of a candidate ``[C, D]``, rounded to nearest, as the float network would see it."""
        return self.bases[weight.bits].nearest(self.float_weight, weight.bits, weight.block)

    def choice(self, weight: WeightCandidate, found: InputCandidate) -> LinearChoice:
        """The pair as a decision."""
        scheme = found.scheme
        return LinearChoice(
            weight.bits, found.bits, weight.block, scheme.scheme, scheme.groups, scheme.block, scheme.rotate
        )

    def products(self, weight: WeightCandidate, found: InputCandidate) -> int:
        """Bit operations of the product."""
        return product_bops(linear_product(self.layer), found.bits, weight.bits)


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
    some = np.ascontiguousarray(weight[:, :: -(-weight.shape[1] // OUTPUTS_TRIED)])
    inputs = []
    for bits in space.activation_widths:
        for scheme in space.inputs(len(weight), bits, norm is not None):
            typical = min(space.weight_widths, key=lambda width: abs(width - bits))
            choice = LinearChoice(typical, bits, 0, scheme.scheme, scheme.groups, scheme.block, scheme.rotate)
            item = fit_input(choice, samples, weight, norm=norm, integer=integer)
            kept = rows if isinstance(item.quantizer, BlockQuantizer) else samples.sample
            inputs.append(
                InputCandidate(bits, scheme, item, input_error(item, kept, some), input_bookkeeping(layer, item))
            )
    folds = {item.bits: item.item.fold for item in inputs if item.item.fold is not None}
    weights, bases = [], {}
    for bits in space.weight_widths:
        # Weights behind a fold are worse than without; which fold it will be is decided later, likely one as wide.
        nearest = min(folds, key=lambda width: abs(width - bits), default=None)
        basis = bases[bits] = WeightBasis.of(rows, None if nearest is None else folds[nearest])
        for block in space.weights(len(weight), bits):
            error = weight_error(rows, some, basis.nearest(some, bits, block))
            cost = weight_bops(linear_product(layer), block)
            size = weight_bytes(len(weight), weight.shape[1], bits, block)
            weights.append(WeightCandidate(bits, block, error, cost, size))
    return LinearCandidates(layer, tuple(inputs), tuple(weights), weight, bases)


def input_bookkeeping(layer: LinearLayer, item: LinearInput) -> int:
    """Bit operations of a linear layer's input quantizer besides the product."""
    if isinstance(item.quantizer, BlockQuantizer):
        return block_input_bops(linear_product(layer), item.quantizer)
    return site_bookkeeping(linear_site(layer), item.quantizer, normalize=item.normalize)


def weight_error(rows: F32, weight: F32, found: F32) -> float:
    """Relative squared error of the output that a rounded weight leaves on float rows ``[rows, C]``."""
    wanted = rows @ weight
    difference = rows @ (found - weight)
    norm = (wanted * wanted).sum(axis=1, keepdims=True)  # every token counts alike
    norm = np.where(norm > 0, norm, np.float32(1))
    return float((difference * difference / norm).sum(dtype=np.float64) / len(rows))
