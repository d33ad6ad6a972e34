"""Budgets recomputed from a written file alone: its nodes, its constants and the sizes of its tensors.

Nothing is taken from the report in the file, from a plan, or from the code that kept to the budgets, so that either can
be held against the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil, log2, prod

import onnx

from qcompiler.errors import UnsupportedModelError
from qcompiler.report.reading.ends import end_layers
from qcompiler.report.reading.finding import find_layers
from qcompiler.report.reading.layers import FoundAttention, FoundLayer, FoundLinear, FoundProduct, Quantizer
from qcompiler.report.reading.shapes import Shapes, image_count, tensor_shapes
from qcompiler.report.reading.wiring import Wiring

_FLOAT = 32  # bits of an operation that is no product of codes
_W8A8 = 8 * 8


@dataclass(frozen=True)
class LayerCount:
    """Bit operations of one layer for one image.

    Attributes:
        name: Name of its node.
        macs: Multiply-accumulates of its products.
        products: Bit operations of its products.
        bookkeeping: Bit operations of ranges, assignment, row norms, rotation and rescaling.
        fixed: Whether it is the patch embedding or a head.
    """

    name: str
    macs: int
    products: int
    bookkeeping: int
    fixed: bool


@dataclass(frozen=True)
class Recount:
    """What the budgets limit, for one image.

    Attributes:
        products: Bit operations of the products whose widths were free.
        products_w8a8: The same products at 8 x 8 bits.
        bookkeeping: Bit operations of ranges, assignment, row norms, rotation and rescaling of these layers.
        fixed: Products and bookkeeping of patch embedding and head.
        bytes: Bytes of the model, weights that lie in other files included.
        weight_bytes: Bytes of the integer weights, with their scales and the multiples and zero points of blocks.
    """

    products: int
    products_w8a8: int
    bookkeeping: int
    fixed: int
    bytes: int
    weight_bytes: int

    @property
    def fraction_of_w8a8(self) -> float:
        """What ``--bop-budget`` limits."""
        return self.products / self.products_w8a8 if self.products_w8a8 else 0.0

    @property
    def overhead(self) -> float:
        """What ``--overhead-budget`` limits: the bookkeeping as a share of the products."""
        return self.bookkeeping / self.products if self.products else 0.0

    def to_dict(self) -> dict[str, int | float]:
        """Counts and fractions."""
        return {**asdict(self), "fraction_of_w8a8": self.fraction_of_w8a8, "overhead": self.overhead}


def recount(model: onnx.ModelProto) -> Recount:
    """Count everything again; nothing is run.

    Args:
        model: A model that qcompile wrote, fused or readable.

    Raises:
        UnsupportedModelError: The size of a quantized tensor is unknown because the file does not fix it.
    """
    wiring = Wiring(model.graph)
    layers = find_layers(wiring)
    counts = count_layers(model)
    free = [count for count in counts if not count.fixed]
    weights = {layer.weight.name: layer.weight for layer in layers if isinstance(layer, FoundLinear)}
    return Recount(
        products=sum(count.products for count in free),
        products_w8a8=sum(count.macs for count in free) * _W8A8,
        bookkeeping=sum(count.bookkeeping for count in free),
        fixed=sum(count.products + count.bookkeeping for count in counts if count.fixed),
        bytes=model.ByteSize(),
        weight_bytes=sum(weight.code_bytes + weight.scale_bytes for weight in weights.values()),
    )


def count_layers(model: onnx.ModelProto) -> tuple[LayerCount, ...]:
    """Bit operations of every quantized layer for one image, in graph order; see :func:`recount`."""
    wiring = Wiring(model.graph)
    layers = find_layers(wiring)
    shapes, images = tensor_shapes(model), image_count(model.graph)
    counts = []
    for layer, fixed in zip(layers, end_layers(wiring, layers), strict=True):
        macs, products, bookkeeping = _cost(layer, shapes)
        counts.append(LayerCount(layer.node.name, macs // images, products // images, bookkeeping // images, fixed))
    return tuple(counts)


def _cost(layer: FoundLayer, shapes: Shapes) -> tuple[int, int, int]:
    """Multiply-accumulates, and bit operations of products and bookkeeping, for the whole batch."""
    if isinstance(layer, FoundLinear):
        return _linear(layer, _size(layer.source, shapes))
    if isinstance(layer, FoundAttention):
        return _attention(layer, _size(layer.packed, shapes))
    return _product(layer, _size(layer.left.source, shapes), _size(layer.right.source, shapes))


def _linear(layer: FoundLinear, shape: tuple[int, ...]) -> tuple[int, int, int]:
    inner, weight = shape[-1], layer.weight
    results = prod(shape[:-1]) * weight.outputs
    macs = results * inner
    bookkeeping = _operand(layer.input, shape, results)
    if weight.block:
        bookkeeping += _FLOAT * results * (inner // weight.block)
    return macs, macs * layer.input.bits * weight.bits, bookkeeping


def _attention(layer: FoundAttention, packed: tuple[int, ...]) -> tuple[int, int, int]:
    batch, tokens, width = packed
    rows = (batch, layer.heads, tokens, width // 3 // layer.heads)
    scores = batch * layer.heads * tokens * tokens
    macs = scores * rows[-1]
    bookkeeping = (
        _operand(layer.query, rows, scores)
        + _operand(layer.key, rows, scores)
        + _operand(layer.value, rows, 0)
        + _operand(layer.probability, (batch, layer.heads, tokens, tokens), 0)
    )
    return 2 * macs, macs * (layer.query.bits * layer.key.bits + _mixing(layer.probability, layer.value)), bookkeeping


def _product(layer: FoundProduct, left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, int, int]:
    outputs = right[-2] if layer.transposed else right[-1]
    results = prod(left[:-1]) * outputs
    macs = results * left[-1]
    # Blocks of a right operand that is not transposed lie along the outputs.
    bookkeeping = _operand(layer.left, left, results) + _operand(layer.right, right, results * layer.transposed)
    return macs, macs * _mixing(layer.left, layer.right), bookkeeping


def _mixing(left: Quantizer, right: Quantizer) -> int:
    """Bits of a multiplication; those of probabilities are what their operands need, at least those of the values."""
    return right.bits * (max(right.bits, ceil(log2(left.levels))) if left.levels else left.bits)


def _operand(quantizer: Quantizer, shape: tuple[int, ...], results: int) -> int:
    """Bookkeeping of one quantized operand.

    Args:
        quantizer: Its quantizer.
        shape: Its shape ``[..., N, C]`` where it is quantized.
        results: Elements of the product's result if the product sums over the operand's last axis, else 0: scales
            within that sum are rescaled once for each of them.
    """
    values, row = prod(shape), shape[-1]
    if quantizer.scheme == "blocks":
        # Ranges, a step and a zero point of each block, and additions of the rotation's stages.
        cost = values + values // quantizer.block + values * int(log2(quantizer.rotate))
        # A block that is the whole row has an outer scale, which the result has anyway.
        return _FLOAT * (cost + (results * (row // quantizer.block) if quantizer.block < row else 0))
    cost = values if quantizer.normalize else 0
    if quantizer.groups > 1:  # one group has nothing to be assigned to
        items = values // (row if quantizer.scheme == "rows" else shape[-2])
        cost += values + items * quantizer.groups
    if quantizer.scheme == "segments":
        cost += results * quantizer.groups
    return _FLOAT * cost


def _size(tensor: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    shape = shapes.get(tensor)
    if shape is None:
        raise UnsupportedModelError(f"the file does not fix the size of '{tensor}': its products cannot be counted")
    return shape
