"""Narrow activations: the tensors between the nodes of a lowered graph become float16."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto

from qcompiler.errors import VerificationError
from qcompiler.ir.constants import is_readable, is_variable, producer, scalar_of
from qcompiler.ir.editing import Editor
from qcompiler.ir.functions import DOMAIN, function
from qcompiler.ir.generic_bodies import activation_inputs
from qcompiler.ir.passes import Pass
from qcompiler.ir.shapes import ShapeInfo, element_type, infer
from qcompiler.ir.verifier import FUSED_OPS, OPSET

FLOAT, HALF = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)
LARGEST = float(np.finfo(np.float16).max)

# Operators of one element type `T` whose results are in the range of float16 where their operands are, apart from sums
# of products, which inference runs accumulate in float32. What squares, exponentiates or sums a tensor is not among
# them, nor what needs float32 somewhere.
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"})
GENERIC = PRODUCTS | {
    *("Abs", "Add", "Clip", "Div", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LayerNormalization", "LeakyRelu"),
    *("Max", "Mean", "Min", "Mul", "Neg", "PRelu", "Relu", "Sigmoid", "Softmax", "Sub", "Sum", "Tanh", "Where"),
    *("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Pad"),
    *("Reshape", "ScatterND", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
}
# Operators that read any type and whose result has another.
_READERS = frozenset({"Cast", "Shape", "Size"})


@dataclass(frozen=True)
class Slots:
    """Where a node has float32 tensors of its element type: positions of inputs and of outputs."""

    inputs: list[int]
    outputs: list[int]


class NarrowActivations(Pass):
    """Turns float32 tensors between nodes into float16; inputs and outputs of the graph keep their types.

    **Before**: a lowered graph with nodes that an image reaches, which are
      1. fused operators, or products (`MatMul`, `Conv`, ...).
      2. other operators that take any float type, and whose results reach a node of 1 through such operators.
      3. A tensor that such nodes share with others: an input or output of the graph, or of an operator of 8 to 11.
      4. `Cast(x)` of another type than float32 in front of them.
      5. Constants that they read.
      6. `Cast`, `Shape` and `Size` of their results.

    **After**
      1, 2. They read and write float16; inside of the fused operators everything is as before.
      3. A `Cast` where the type changes, one for all readers.
      4. `Cast(x)` to float16.
      5. Constants of standard operators and biases of attention scores are float16: a value beyond its range (a mask)
         becomes the largest one, NaN and infinity stay. Weights, scales and tables keep their types, and so does what
         another node reads, too.
      6. They read float16.

    **Leaves alone**
      7. Tensors of other types.
      8. Operators that are not known to take any float type (`Resize`, `TopK`, readable quantizers, those of other
         domains, those with subgraphs and what is in these).
      9. An operator with a scalar that float16 cannot stand for: an epsilon that would be 0, a divisor beyond 65504.
      10. What leads to no product: the end of the model, boxes, what is compared.
      11. What does not depend on an image.
    """

    def apply(self, graph: gs.Graph) -> bool:
        info = infer(graph)
        typed = {id(node): slots for node in graph.nodes if (slots := _slots(node, info))}
        narrow = self._narrow(graph, typed)
        edit = _Narrowing(graph, {key: typed[key] for key in narrow}, info)
        for node in [node for node in graph.nodes if id(node) in narrow]:
            edit.narrow(node)
            self.applied += 1
        return self.applied > 0

    def ensures(self, graph: gs.Graph) -> None:
        """No operator of one element type reads or writes two."""
        for node in graph.nodes:
            if _is_known(node):
                reads, writes = _positions(node)
                tensors = [node.inputs[index] for index in reads] + [node.outputs[index] for index in writes]
                kinds = {element_type(tensor) for tensor in tensors if not tensor.is_empty() and tensor.dtype}
                if len(kinds) > 1:
                    raise VerificationError(f"node '{node.name}' ({node.op}) has activations of several types")

    def _narrow(self, graph: gs.Graph, typed: dict[int, Slots]) -> set[int]:
        """The nodes to narrow, by identity."""
        reached = {tensor.name for tensor in graph.inputs}
        fed: set[int] = set()
        for node in graph.nodes:  # 11: shapes are the same for all images
            reads = any(tensor.name in reached for tensor in node.inputs) or any(True for _ in node.subgraphs())
            if reads and node.op not in ("Shape", "Size"):
                fed.add(id(node))
                reached.update(tensor.name for tensor in node.outputs)
        narrow: set[int] = set()
        for node in reversed(graph.nodes):
            slots = typed.get(id(node))
            if slots is None or id(node) not in fed:
                continue
            is_product = node.domain == DOMAIN or node.op in PRODUCTS
            readers = (reader for index in slots.outputs for reader in node.outputs[index].outputs)
            if not is_product and not any(id(reader) in narrow for reader in readers):
                continue  # 10
            misfit = _misfit(node, slots)
            if misfit is None:
                narrow.add(id(node))
            else:
                self.refuse(node, "float16 cannot stand for its constant", misfit)  # 9
        return narrow


class _Narrowing:
    """Edits a graph, one node after the other."""

    def __init__(self, graph: gs.Graph, narrow: dict[int, Slots], info: ShapeInfo) -> None:
        self._edit = Editor(graph)
        self._narrow = narrow
        self._info = info
        self._top = {id(node) for node in graph.nodes}
        self._outputs = {id(tensor) for tensor in graph.outputs}
        self._halves: dict[str, gs.Tensor] = {}

    def narrow(self, node: gs.Node) -> None:
        """Let a node read and write float16; the nodes before it were seen already."""
        slots = self._narrow[id(node)]
        for index in slots.inputs:
            tensor = node.inputs[index]
            if isinstance(tensor, gs.Constant) or self._info.dtypes[tensor.name] == FLOAT:
                node.inputs[index] = self._half(tensor)
        for index in slots.outputs:
            self._write(node, index)

    def _half(self, tensor: gs.Tensor) -> gs.Tensor:
        """The tensor in float16, for a node that reads it in float32 so far."""
        if tensor.name not in self._halves:
            name = f"{tensor.name}/float16"
            if isinstance(tensor, gs.Constant):
                self._halves[tensor.name] = self._edit.constant(name, _half_values(np.asarray(tensor.values)))  # 5
            else:
                self._halves[tensor.name] = self._cast(_source(tensor, self._info), name, HALF, tensor.shape)  # 3, 4
        return self._halves[tensor.name]

    def _write(self, node: gs.Node, index: int) -> None:
        """Let a node write float16; readers that need float32 get it from a Cast."""
        tensor = node.outputs[index]
        wide = [reader for reader in tensor.outputs if not self._reads_half(reader, tensor)]
        if id(tensor) in self._outputs:  # 3: the output keeps its name and its type
            half = gs.Variable(self._edit.free_name(f"{tensor.name}/float16"), shape=tensor.shape)
            node.outputs[index] = half
            for reader in [reader for reader in tensor.outputs if self._reads_half(reader, tensor)]:
                _replace(reader, tensor, half)
            self._cast(half, f"{tensor.name}/float32", FLOAT, tensor.shape, tensor)
        else:
            half = tensor
            if wide:
                back = self._cast(half, f"{tensor.name}/float32", FLOAT, tensor.shape)
                for reader in wide:
                    _replace(reader, tensor, back)
        half.dtype = np.dtype(np.float16)
        self._info.dtypes[half.name] = HALF

    def _reads_half(self, reader: gs.Node, tensor: gs.Tensor) -> bool:
        """Whether a node takes the tensor in float16 wherever it reads it."""
        if id(reader) in self._top and reader.op in _READERS and not reader.domain:
            return True  # 6
        slots = self._narrow.get(id(reader))
        places = [index for index, item in enumerate(reader.inputs) if item is tensor]
        return slots is not None and set(places) <= set(slots.inputs)

    def _cast(
        self, tensor: gs.Tensor, name: str, kind: int, shape: list[int | str] | None, result: gs.Variable | None = None
    ) -> gs.Tensor:
        made = self._edit.add("Cast", [tensor], name, {"to": kind}, onnx.helper.tensor_dtype_to_np_dtype(kind))
        if result is not None:
            made.inputs[0].outputs[0] = result
            return result
        made.shape = shape
        self._info.dtypes[made.name] = kind
        return made


def _is_known(node: gs.Node) -> bool:
    """Whether a node is a fused operator, or a standard one that takes any float type."""
    return node.op in FUSED_OPS if node.domain == DOMAIN else node.domain in (None, "") and node.op in GENERIC


def _slots(node: gs.Node, info: ShapeInfo) -> Slots | None:
    """Where a node has tensors of its element type, if it is known and that is float32; else None."""
    if not _is_known(node):
        return None  # 8
    reads, writes = _positions(node)
    inputs = [index for index in reads if not node.inputs[index].is_empty()]
    kinds = {_kind(node.inputs[index], info) for index in inputs}
    return Slots(inputs, writes) if kinds == {FLOAT} else None  # 7


def _positions(node: gs.Node) -> tuple[list[int], list[int]]:
    """Positions of the inputs and outputs of a known node that have its element type."""
    if node.domain == DOMAIN:
        return list(activation_inputs(function(node.op).input)), [0]
    inputs, outputs = _parameters(node.op)
    reads = [index for index in range(len(node.inputs)) if inputs[min(index, len(inputs) - 1)]]
    return reads, [index for index in range(len(node.outputs)) if outputs[min(index, len(outputs) - 1)]]


@cache
def _parameters(op: str) -> tuple[list[bool], list[bool]]:
    """Which inputs and outputs of a standard operator have its element type; the last may stand for many."""
    schema = onnx.defs.get_schema(op, OPSET, "")
    first, second = ([item.type_str == "T" for item in items] for items in (schema.inputs, schema.outputs))
    return first, second


def _kind(tensor: gs.Tensor, info: ShapeInfo) -> int:
    """The element type of a tensor; 0 where it is unknown."""
    return element_type(tensor) if isinstance(tensor, gs.Constant) else info.dtypes.get(tensor.name, 0)


def _source(tensor: gs.Tensor, info: ShapeInfo) -> gs.Tensor:
    """What a Cast of another type to this tensor reads, else the tensor."""
    maker = producer(tensor)
    if maker is not None and maker.op == "Cast" and is_variable(maker.inputs[0]):
        return maker.inputs[0] if info.dtypes.get(maker.inputs[0].name) not in (None, FLOAT, HALF) else tensor
    return tensor


def _misfit(node: gs.Node, slots: Slots) -> float | None:
    """A scalar constant of a node that float16 has nothing near."""
    for index in slots.inputs:
        tensor = node.inputs[index]
        value = scalar_of(tensor) if isinstance(tensor, gs.Constant) and is_readable(tensor) else None
        if value is None:
            continue
        vanishes = value != 0 and np.float16(np.clip(value, -LARGEST, LARGEST)) == 0
        if vanishes or (node.op == "Div" and index == 1 and LARGEST < abs(value) < np.inf):
            return value
    return None


def _half_values(values: np.ndarray) -> np.ndarray:
    clipped = np.where(np.isfinite(values), np.clip(values, -LARGEST, LARGEST), values)
    return np.asarray(clipped, np.float16)


def _replace(node: gs.Node, old: gs.Tensor, new: gs.Tensor) -> None:
    for index, tensor in enumerate(node.inputs):
        if tensor is old:
            node.inputs[index] = new
