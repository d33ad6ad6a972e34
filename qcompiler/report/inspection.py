"""What a model file is, read from the file alone: its nodes, its constants, and its metadata where it has some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import onnx

from qcompiler.quant.groups import CHANNELS, ROWS, GroupTable
from qcompiler.report.metadata import read_layer, read_report
from qcompiler.report.values import CompileReport

DOMAIN = "qcompiler"
_INTEGERS = (onnx.TensorProto.INT4, onnx.TensorProto.INT8)
_ATTENTION = ("GroupAttention", "GroupAttentionBias")
_QUANTIZER = "GroupQuantizeLinear"
_READING = "GroupDequantizeLinear"


@dataclass(frozen=True)
class InspectedLayer:
    """One quantized layer as the file has it.

    Attributes:
        name: Name of its node.
        op: Operator of the node.
        kind: ``qkv``, ``fc1``, ...; None where the metadata does not say.
        weight_bits: Width of the weights: that of the metadata, else the narrowest that holds every code; None without.
        stored: Element type that holds the weights, ``int4`` or ``int8``; None without weights.
        activation_bits: Width of the activations.
        scheme: ``rows``, ``channels`` or ``segments``; for a product of two activations how both are grouped; for
            ``GroupAttention`` the softmax levels, ``uniform`` or ``codebook``.
        groups: Number of groups of each quantizer.
        inner: Length of the reduction; None for attention.
        outputs: Columns of the product; None for attention.
        weight_bytes: Bytes of the packed weights.
        products: Bit operations of the products per image; None where the metadata does not say.
    """

    name: str
    op: str
    kind: str | None
    weight_bits: int | None
    stored: str | None
    activation_bits: int
    scheme: str
    groups: tuple[int, ...]
    inner: int | None
    outputs: int | None
    weight_bytes: int
    products: int | None


@dataclass(frozen=True)
class Inspection:
    """What a model file is.

    Attributes:
        form: ``lowered`` (fused operators), ``readable`` (explicit quantizers) or ``float``.
        opset: Version of the standard operators.
        ir_version: Version of the file format.
        producer: Who wrote the file.
        operators: How often each operator occurs, those of qcompile with their domain.
        layers: The quantized layers, in graph order.
        report: The report in the metadata, or None.
    """

    form: str
    opset: int
    ir_version: int
    producer: str
    operators: Mapping[str, int]
    layers: tuple[InspectedLayer, ...]
    report: CompileReport | None

    def to_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "form": self.form,
            "opset": self.opset,
            "ir_version": self.ir_version,
            "producer": self.producer,
            "operators": dict(self.operators),
            "layers": [asdict(layer) for layer in self.layers],
            "report": None if self.report is None else self.report.to_dict(),
        }


def inspect_model(model: onnx.ModelProto) -> Inspection:
    """Reads a model; nothing is run.

    Args:
        model: A float model, or one that qcompile wrote, in either of its forms.
    """
    nodes = model.graph.node
    wiring = _Wiring(model.graph)
    layers = tuple(layer for node in nodes if (layer := _layer(node, wiring)) is not None)
    if any(node.op_type == _QUANTIZER and node.domain == DOMAIN for node in nodes):
        form = "readable"
    else:
        form = "lowered" if layers else "float"
    return Inspection(
        form=form,
        opset=next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0),
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        operators=dict(Counter(f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in nodes)),
        layers=layers,
        report=read_report(model),
    )


@dataclass(frozen=True)
class _Weight:
    """A constant integer weight."""

    bits: int
    stored: str
    inner: int
    outputs: int
    size: int


@dataclass(frozen=True)
class _Quantizer:
    """One group quantizer of the readable form."""

    bits: int
    table: GroupTable


class _Wiring:
    """Who computes which tensor of a graph, and its constants."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._producers = {name: node for node in graph.node for name in node.output}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}

    def producer(self, tensor: str, op: str) -> onnx.NodeProto | None:
        """The node that computes ``tensor``, if it is an ``op``."""
        node = self._producers.get(tensor)
        return node if node is not None and node.op_type == op else None

    def constant(self, tensor: str) -> onnx.TensorProto | None:
        """The initialiser of that name, if there is one."""
        return self._constants.get(tensor)

    def groups(self, tensor: str, axis: int, bits: int) -> GroupTable | None:
        """The group table of that name, if it is one."""
        constant = self.constant(tensor)
        if constant is None or len(constant.dims) != 2:
            return None
        return GroupTable.from_array(onnx.numpy_helper.to_array(constant), axis, bits)

    def weight(self, tensor: str) -> _Weight | None:
        """The integer weight of that name, if it is one."""
        constant = self.constant(tensor)
        if constant is None or constant.data_type not in _INTEGERS or len(constant.dims) != 2:
            return None
        stored = "int4" if constant.data_type == onnx.TensorProto.INT4 else "int8"
        inner, outputs = constant.dims
        size = (inner * outputs + 1) // 2 if stored == "int4" else inner * outputs
        codes = onnx.numpy_helper.to_array(constant).astype(np.int8)
        return _Weight(_narrowest(codes), stored, inner, outputs, size)


def _layer(node: onnx.NodeProto, wiring: _Wiring) -> InspectedLayer | None:
    if node.domain == DOMAIN and node.op_type in _ATTENTION:
        return _attention(node, wiring)
    if node.domain == DOMAIN and "GroupLinear" in node.op_type:
        return _linear(node, wiring)
    if node.domain == "" and node.op_type == "MatMul":
        return _readable(node, wiring)
    return None


def _linear(node: onnx.NodeProto, wiring: _Wiring) -> InspectedLayer | None:
    attributes = _attributes(node)
    axis, bits = int(attributes.get("axis", ROWS)), int(attributes.get("bits", 8))
    # In front of the weight come the tensors that the operator reads first, behind it its scale and the groups.
    first = 3 if node.op_type.startswith("LayerNorm") else 1
    if len(node.input) < first + 3:
        return None
    weight = wiring.weight(node.input[first])
    table = wiring.groups(node.input[first + 2], axis, bits)
    if weight is None or table is None:
        return None
    segments = bool(attributes.get("segments", 0))
    return _inspected(node, weight, bits, "segments" if segments else _scheme(axis), (table.count,))


def _attention(node: onnx.NodeProto, wiring: _Wiring) -> InspectedLayer | None:
    bits = int(_attributes(node).get("bits", 8))
    tables = [wiring.groups(name, ROWS, bits) for name in node.input[1:5]]
    levels = wiring.constant(node.input[5]) if len(node.input) > 5 else None
    if levels is None:
        return None
    values = onnx.numpy_helper.to_array(levels)
    scheme = "uniform" if np.array_equal(values, np.arange(len(values))) else "codebook"
    return _inspected(node, None, bits, scheme, tuple(table.count for table in tables if table is not None))


def _readable(node: onnx.NodeProto, wiring: _Wiring) -> InspectedLayer | None:
    left = _quantizer(node.input[0], wiring)
    if left is None:
        return None
    dequantize = wiring.producer(node.input[1], "DequantizeLinear")
    if dequantize is not None:
        weight = wiring.weight(dequantize.input[0])
        scheme = "segments" if left.table.exact else _scheme(left.table.axis)
        return None if weight is None else _inspected(node, weight, left.bits, scheme, (left.table.count,))
    right = _quantizer(node.input[1], wiring)
    if right is None:
        return None
    # What the table calls channels are the columns of the right operand.
    scheme = f"{_scheme(left.table.axis)} x {'columns' if right.table.axis == CHANNELS else 'rows'}"
    return _inspected(node, None, left.bits, scheme, (left.table.count, right.table.count))


def _quantizer(tensor: str, wiring: _Wiring) -> _Quantizer | None:
    """The quantizer that ``tensor`` is read back from, also behind the rescaling of normalised rows."""
    rescale = wiring.producer(tensor, "Mul")
    candidates = rescale.input if rescale is not None else [tensor]
    reading = next((node for name in candidates if (node := wiring.producer(name, _READING)) is not None), None)
    if reading is None:
        return None
    sort = wiring.producer(reading.input[1], "GroupSort")
    codes = reading.input[0]
    gather = wiring.producer(codes, "Gather")  # a codebook: the codes pick operands from its levels
    cast = wiring.producer(gather.input[1], "Cast") if gather is not None else None
    quantize = wiring.producer(cast.input[0] if cast is not None else codes, _QUANTIZER)
    if sort is None or quantize is None:
        return None
    bits = int(_attributes(quantize).get("bits", 8))
    table = wiring.groups(reading.input[2], int(_attributes(sort).get("axis", ROWS)), bits)
    return None if table is None else _Quantizer(bits, table)


def _inspected(
    node: onnx.NodeProto, weight: _Weight | None, bits: int, scheme: str, groups: tuple[int, ...]
) -> InspectedLayer:
    report = read_layer(node)
    known = report.weight_bits if report is not None else None
    return InspectedLayer(
        name=node.name,
        op=node.op_type,
        kind=None if report is None else report.kind,
        weight_bits=None if weight is None else known or weight.bits,
        stored=None if weight is None else weight.stored,
        activation_bits=bits,
        scheme=scheme,
        groups=groups,
        inner=None if weight is None else weight.inner,
        outputs=None if weight is None else weight.outputs,
        weight_bytes=0 if weight is None else weight.size,
        products=None if report is None else report.products,
    )


def _scheme(axis: int) -> str:
    return "rows" if axis == ROWS else "channels"


def _narrowest(codes: np.ndarray) -> int:
    """The smallest width, from 2 bits, whose signed codes include all of ``codes``."""
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    return next(bits for bits in range(2, 9) if -(2 ** (bits - 1)) <= low and high < 2 ** (bits - 1))


def _attributes(node: onnx.NodeProto) -> dict[str, int]:
    """The node's whole-number attributes."""
    return {item.name: item.i for item in node.attribute if item.type == onnx.AttributeProto.INT}
