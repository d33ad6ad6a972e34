"""One quantized layer of a file as `qcompile inspect` shows it."""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.report.metadata import read_layer
from qcompiler.report.reading.layers import FoundAttention, FoundLayer, FoundLinear, Quantizer


@dataclass(frozen=True)
class InspectedLayer:
    """One quantized layer as the file has it.

    Attributes:
        name: Name of its node.
        op: Operator of the node.
        kind: ``qkv``, ``fc1``, ...; None where the metadata does not say.
        weight_bits: Width of the weights: that of the metadata, else the narrowest that holds every code; None without.
        stored: Element type that holds the weights, ``int4`` or ``int8``; None without weights.
        activation_bits: Width of the activations; of queries and keys for attention, of the right operand for a product
            of two activations.
        value_bits: Width of values and probabilities of attention; None otherwise.
        scheme: ``rows``, ``channels``, ``segments`` or ``blocks``; for a product of two activations that of both; for
            fused attention ``groups`` or ``blocks`` and the softmax levels, ``uniform`` or ``codebook``.
        groups: Number of groups of each group quantizer.
        block: Channels of one block of the activations; 0 where they are not cut into blocks.
        rotate: Channels that are rotated together in front of blocks; 1 for none.
        weight_block: Input channels that share a multiple and a zero point of the weight; 0 for none.
        inner: Length of the reduction; None for attention.
        outputs: Columns of the product; None for attention.
        weight_bytes: Bytes of the packed codes of the weights.
        products: Bit operations of the products per image; None where the metadata does not say.
        relevance: Share of the model's relevance; None where the metadata does not say.
        sensitivity: Predicted KL divergence of this layer alone, nats; None where the metadata does not say.
    """

    name: str
    op: str
    kind: str | None
    weight_bits: int | None
    stored: str | None
    activation_bits: int
    value_bits: int | None
    scheme: str
    groups: tuple[int, ...]
    block: int
    rotate: int
    weight_block: int
    inner: int | None
    outputs: int | None
    weight_bytes: int
    products: int | None
    relevance: float | None
    sensitivity: float | None


def inspected_layer(layer: FoundLayer) -> InspectedLayer:
    """A layer that was found, with what its node's metadata says of it."""
    report = read_layer(layer.node)
    weight = layer.weight if isinstance(layer, FoundLinear) else None
    known = report.weight_bits if report is not None else None
    activation = _activation(layer)
    return InspectedLayer(
        name=layer.node.name,
        op=layer.node.op_type,
        kind=None if report is None else report.kind,
        weight_bits=None if weight is None else known or weight.bits,
        stored=None if weight is None else weight.stored,
        activation_bits=activation.bits,
        value_bits=layer.value.bits if isinstance(layer, FoundAttention) else None,
        scheme=_scheme(layer),
        groups=_groups(layer),
        block=activation.block,
        rotate=activation.rotate,
        weight_block=0 if weight is None else weight.block,
        inner=None if weight is None else weight.inner,
        outputs=None if weight is None else weight.outputs,
        weight_bytes=0 if weight is None else weight.code_bytes,
        products=None if report is None else report.products,
        relevance=None if report is None else report.relevance,
        sensitivity=None if report is None else report.sensitivity,
    )


def _quantizers(layer: FoundLayer) -> tuple[Quantizer, ...]:
    if isinstance(layer, FoundLinear):
        return (layer.input,)
    if isinstance(layer, FoundAttention):
        return layer.query, layer.key, layer.value, layer.probability
    return layer.left, layer.right


def _activation(layer: FoundLayer) -> Quantizer:
    """The quantizer whose width and blocks stand for the layer; a codebook has wider indices than codes."""
    return _quantizers(layer)[0 if isinstance(layer, (FoundLinear, FoundAttention)) else 1]


def _groups(layer: FoundLayer) -> tuple[int, ...]:
    return tuple(quantizer.groups for quantizer in _quantizers(layer) if quantizer.groups)


def _scheme(layer: FoundLayer) -> str:
    first, *rest = _quantizers(layer)
    if isinstance(layer, FoundLinear):
        return first.scheme
    if isinstance(layer, FoundAttention):
        operands = "blocks" if first.scheme == "blocks" else "groups"
        return f"{operands}, {'codebook' if rest[-1].codebook else 'uniform'}"
    # What the table calls channels are the columns of the right operand.
    return f"{first.scheme} x {'columns' if rest[0].scheme == 'channels' else rest[0].scheme}"
