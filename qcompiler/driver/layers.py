"""Layers whose widths are free or fixed, the per-layer part of the report, and the bit operations of a whole plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qcompiler.allocation.widths import LayerProduct
from qcompiler.ir.structure import AttentionBlock, LinearLayer, Structure
from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.bookkeeping import effective_input_bits, effective_weight_bits
from qcompiler.quant.bops import FLOAT_BITS, BitOperations, product_bops
from qcompiler.quant.groups import GroupTable
from qcompiler.quant.plan import AttentionPlan, BlockAttentionPlan, LinearPlan, QuantPlan, Widths
from qcompiler.quant.sites import attention_products, linear_product
from qcompiler.report.values import LayerReport

# Patch embedding and head run at 8 bits by default.
FIXED_KINDS = ("patch_embed", "head")


def fixed_layers(structure: Structure) -> frozenset[str]:
    """Layers whose widths ``--first-last-bits`` decides: patch embedding and head.

    A model of nothing else has no layer in between that a budget could be about: then their own widths are free.
    """
    found = frozenset(layer.name for layer in structure.linears if layer.kind in FIXED_KINDS)
    return found if structure.attentions or len(found) < len(structure.linears) else frozenset()


def free_products(structure: Structure) -> list[LayerProduct]:
    """Products whose widths the budget decides."""
    fixed = fixed_layers(structure)
    products = [
        LayerProduct(layer.name, linear_product(layer), weights=True)
        for layer in structure.linears
        if layer.name not in fixed
    ]
    for block in structure.attentions:
        products += [LayerProduct(block.softmax, shape, weights=False) for shape in attention_products(block)]
    return products


@dataclass(frozen=True)
class LayerFacts:
    """What is known of the layers of a plan.

    Attributes:
        plan: What was decided.
        bookkeeping: Bit operations of every layer's bookkeeping (of the Softmax for an attention block).
        relevance: Share of every layer and attention product; empty if it was not measured.
        sensitivity: Predicted loss of every layer alone (of the Softmax likewise); empty if it was not measured.
    """

    plan: QuantPlan
    bookkeeping: Mapping[str, int]
    relevance: Mapping[str, float]
    sensitivity: Mapping[str, float]


def layer_reports(structure: Structure, order: Sequence[str], facts: LayerFacts) -> tuple[LayerReport, ...]:
    """One entry per quantized layer, in graph order.

    Args:
        structure: What was found in the canonical graph.
        order: Names of the canonical graph's nodes, in order.
        facts: What was decided and measured.
    """
    position = {name: index for index, name in enumerate(order)}
    fixed = fixed_layers(structure)
    plan, found = facts.plan, {}
    for layer in structure.linears:
        measures = facts.relevance.get(layer.name), facts.sensitivity.get(layer.name)
        found[position[layer.name]] = _linear(
            layer, plan.linears[layer.name], facts.bookkeeping[layer.name], layer.name in fixed, measures
        )
    for block in structure.attentions:
        parts = [facts.relevance[name] for name in (block.scores, block.mixing) if name in facts.relevance]
        measures = sum(parts) if parts else None, facts.sensitivity.get(block.softmax)
        found[position[block.softmax]] = _attention(
            block, plan.attentions[block.softmax], facts.bookkeeping[block.softmax], measures
        )
    return tuple(found[place] for place in sorted(found))


def _linear(
    layer: LinearLayer,
    plan: LinearPlan,
    bookkeeping: int,
    fixed: bool,
    measures: tuple[float | None, float | None],
) -> LayerReport:
    item, blocks = plan.input, plan.weight.blocks
    return LayerReport(
        name=layer.name,
        kind=layer.kind,
        weight_bits=plan.widths.weight,
        activation_bits=plan.widths.activation,
        scheme="folded" if isinstance(item, GroupTable) and not plan.normalize else plan.scheme,
        groups=(item.count,) if isinstance(item, GroupTable) else (),
        tokens=layer.tokens,
        inner=layer.in_features,
        outputs=layer.out_features,
        products=product_bops(linear_product(layer), plan.widths.activation, plan.widths.weight),
        bookkeeping=bookkeeping,
        fixed=fixed,
        block=item.block if isinstance(item, BlockQuantizer) else 0,
        rotate=item.rotate if isinstance(item, BlockQuantizer) else 1,
        weight_block=0 if blocks is None else layer.in_features // len(blocks.multiplier),
        effective_weight_bits=effective_weight_bits(plan.weight),
        effective_activation_bits=effective_input_bits(item, layer.in_features)
        if isinstance(item, BlockQuantizer)
        else float(item.bits),
        relevance=measures[0],
        sensitivity=measures[1],
    )


def _attention(
    block: AttentionBlock,
    plan: AttentionPlan | BlockAttentionPlan,
    bookkeeping: int,
    measures: tuple[float | None, float | None],
) -> LayerReport:
    in_blocks = isinstance(plan, BlockAttentionPlan)
    tables = () if isinstance(plan, BlockAttentionPlan) else (plan.query, plan.key, plan.value)
    levels = "codebook" if plan.codebook else "uniform"
    scores, mixing = attention_products(block)
    return LayerReport(
        name=block.name,
        kind="attention",
        weight_bits=None,
        activation_bits=plan.qk_bits,
        scheme=f"{'blocks' if in_blocks else 'groups'}, {levels}",
        groups=tuple(table.count for table in (*tables, plan.probability)),
        tokens=block.tokens,
        inner=block.head_dim,
        outputs=block.tokens,
        products=product_bops(scores, plan.qk_bits, plan.qk_bits) + product_bops(mixing, plan.v_bits, plan.v_bits),
        bookkeeping=bookkeeping,
        fixed=False,
        value_bits=plan.v_bits,
        block=plan.query_key.block if isinstance(plan, BlockAttentionPlan) else 0,
        effective_activation_bits=float(plan.qk_bits),
        relevance=measures[0],
        sensitivity=measures[1],
    )


def bit_operations(structure: Structure, layers: Sequence[LayerReport], widths: Widths) -> BitOperations:
    """Bit operations of one image.

    Args:
        structure: What was found in the canonical graph.
        layers: What its layers became; empty where nothing is quantized yet.
        widths: Uniform widths that stand for the layers as long as there are none.
    """
    free = free_products(structure)
    fixed = [linear_product(layer) for layer in structure.linears if layer.name in fixed_layers(structure)]
    return BitOperations(
        products=sum(layer.products for layer in layers if not layer.fixed)
        if layers
        else sum(product.bops(widths) for product in free),
        bookkeeping=sum(layer.bookkeeping for layer in layers if not layer.fixed),
        fixed=sum(layer.products + layer.bookkeeping for layer in layers if layer.fixed),
        products_w8a8=sum(product.bops(Widths(8, 8)) for product in free),
        float32=sum(shape.macs for shape in [*fixed, *(product.shape for product in free)]) * FLOAT_BITS**2,
    )


def widths_text(layers: Sequence[LayerReport], centre: Widths) -> str:
    """``w4a4`` where all free layers are alike, else their mean widths, weighted by products' size."""
    linear = [
        (Widths(layer.weight_bits, layer.activation_bits), layer.tokens * layer.inner * layer.outputs)
        for layer in layers
        if not layer.fixed and layer.weight_bits is not None
    ]
    if len({widths for widths, _ in linear}) <= 1:
        return str(linear[0][0] if linear else centre)
    whole = sum(size for _, size in linear)
    weight = sum(size * widths.weight for widths, size in linear) / whole
    activation = sum(size * widths.activation for widths, size in linear) / whole
    return f"mixed, w{weight:.2f}a{activation:.2f} on average"
