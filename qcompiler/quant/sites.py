"""Where quantizers go: one site per quantized operand of a canonical graph, with its size and its bookkeeping."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from qcompiler.ir.structure import AttentionBlock, LinearLayer, Structure
from qcompiler.quant.bops import ProductShape, assignment_bops, range_bops, segment_bops
from qcompiler.quant.groups import CHANNELS, GroupTable


class Role(Enum):
    """What a quantized operand is."""

    INPUT = "input"
    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    PROBABILITY = "probability"


@dataclass(frozen=True)
class Site:
    """One operand that gets a group quantizer.

    Attributes:
        layer: Name of the layer: the MatMul of a linear layer, or the Softmax of an attention block.
        role: What the operand is.
        node: Name of the node that reads it.
        index: Position among the inputs of that node.
        product: The product that reads it, per image.
        rows: Rows (tokens) of the operand per instance.
        channels: Channels of the operand.
    """

    layer: str
    role: Role
    node: str
    index: int
    product: ProductShape
    rows: int
    channels: int

    @property
    def name(self) -> str:
        """Unique name of the site."""
        return f"{self.layer}:{self.role.value}"


def linear_site(layer: LinearLayer) -> Site:
    """The input of a linear layer."""
    product = linear_product(layer)
    return Site(layer.name, Role.INPUT, layer.name, 0, product, layer.tokens, layer.in_features)


def attention_sites(block: AttentionBlock) -> tuple[Site, ...]:
    """Queries, keys, probabilities and values of an attention block."""
    scores, mixing = attention_products(block)
    tokens, dim = block.tokens, block.head_dim
    return (
        Site(block.softmax, Role.QUERY, block.scores, 0, scores, tokens, dim),
        Site(block.softmax, Role.KEY, block.scores, 1, scores, tokens, dim),
        Site(block.softmax, Role.PROBABILITY, block.mixing, 0, mixing, tokens, tokens),
        Site(block.softmax, Role.VALUE, block.mixing, 1, mixing, tokens, dim),
    )


def linear_product(layer: LinearLayer) -> ProductShape:
    """The product of a linear layer, per image."""
    return ProductShape(layer.tokens, layer.in_features, layer.out_features, layer.instances)


def attention_products(block: AttentionBlock) -> tuple[ProductShape, ProductShape]:
    """Queries by keys and probabilities by values of an attention block, per image."""
    count = block.num_heads * block.instances
    return (
        ProductShape(block.tokens, block.head_dim, block.tokens, count),
        ProductShape(block.tokens, block.tokens, block.head_dim, count),
    )


def all_sites(structure: Structure) -> tuple[Site, ...]:
    """Every site of a graph, linear layers first."""
    linears = tuple(linear_site(layer) for layer in structure.linears)
    return linears + tuple(site for block in structure.attentions for site in attention_sites(block))


def site_bookkeeping(site: Site, table: GroupTable, *, normalize: bool) -> int:
    """Bit operations per image of a site's ranges, assignment, row norms and, for exact groups, rescaling.

    One group needs no ranges and no assignment: its quantizer is static.
    """
    count = site.product.count
    operand = ProductShape(site.rows, site.channels, 0, count)
    cost = range_bops(operand) if normalize else 0
    if table.count > 1:
        items = (site.channels if table.axis == CHANNELS else site.rows) * count
        cost += range_bops(operand) + assignment_bops(items, table.count)
    if table.exact:
        cost += segment_bops(site.product, table.count)
    return cost
