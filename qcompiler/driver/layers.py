"""The per-layer part of the report, and the bit operations of a whole plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qcompiler.driver.planning import fixed_layers, free_products
from qcompiler.ir.structure import AttentionBlock, LinearLayer, Structure
from qcompiler.quant.bops import FLOAT_BITS, BitOperations, product_bops
from qcompiler.quant.plan import AttentionPlan, LinearPlan, QuantPlan, Widths
from qcompiler.quant.sites import attention_products, attention_sites, linear_product, linear_site
from qcompiler.report.values import LayerReport


def layer_reports(
    structure: Structure, plan: QuantPlan | None, bookkeeping: Mapping[str, int], order: Sequence[str]
) -> tuple[LayerReport, ...]:
    """One entry per quantized layer, in graph order; empty without a plan.

    Args:
        structure: What was found in the canonical graph.
        plan: What was decided.
        bookkeeping: Bit operations of every site's bookkeeping.
        order: Names of the canonical graph's nodes, in order.
    """
    if plan is None:
        return ()
    position = {name: index for index, name in enumerate(order)}
    fixed = fixed_layers(structure)
    found = {}
    for layer in structure.linears:
        cost = bookkeeping[linear_site(layer).name]
        found[position[layer.name]] = _linear(layer, plan.linears[layer.name], cost, layer.name in fixed)
    for block in structure.attentions:
        cost = sum(bookkeeping[site.name] for site in attention_sites(block))
        found[position[block.softmax]] = _attention(block, plan.attentions[block.softmax], cost)
    return tuple(found[place] for place in sorted(found))


def _linear(layer: LinearLayer, plan: LinearPlan, bookkeeping: int, fixed: bool) -> LayerReport:
    return LayerReport(
        name=layer.name,
        kind=layer.kind,
        weight_bits=plan.widths.weight,
        activation_bits=plan.widths.activation,
        scheme=plan.scheme,
        groups=(plan.table.count,),
        tokens=layer.tokens,
        inner=layer.in_features,
        outputs=layer.out_features,
        products=product_bops(linear_product(layer), plan.widths.activation, plan.widths.weight),
        bookkeeping=bookkeeping,
        fixed=fixed,
    )


def _attention(block: AttentionBlock, plan: AttentionPlan, bookkeeping: int) -> LayerReport:
    tables = (plan.query, plan.key, plan.value, plan.probability)
    return LayerReport(
        name=block.name,
        kind="attention",
        weight_bits=None,
        activation_bits=plan.bits,
        scheme="codebook" if plan.codebook else "uniform",
        groups=tuple(table.count for table in tables),
        tokens=block.tokens,
        inner=block.head_dim,
        outputs=block.tokens,
        products=sum(product_bops(shape, plan.bits, plan.bits) for shape in attention_products(block)),
        bookkeeping=bookkeeping,
        fixed=False,
    )


def bit_operations(
    structure: Structure,
    bookkeeping: Mapping[str, int],
    widths: Widths,
    fixed_bits: int,
) -> BitOperations:
    """Bit operations of one image; without bookkeeping only the products are known."""
    free = free_products(structure)
    fixed = [linear_product(layer) for layer in structure.linears if layer.name in fixed_layers(structure)]
    fixed_names = fixed_layers(structure)
    free_bookkeeping = sum(cost for name, cost in bookkeeping.items() if name.rsplit(":", 1)[0] not in fixed_names)
    fixed_bookkeeping = sum(bookkeeping.values()) - free_bookkeeping
    return BitOperations(
        products=sum(product.bops(widths) for product in free),
        bookkeeping=free_bookkeeping,
        fixed=sum(product_bops(shape, fixed_bits, fixed_bits) for shape in fixed) + fixed_bookkeeping,
        products_w8a8=sum(product.bops(Widths(8, 8)) for product in free),
        float32=sum(shape.macs for shape in [*fixed, *(product.shape for product in free)]) * FLOAT_BITS**2,
    )


