"""Computes only the tokens that something reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import array_of, is_variable
from qcompiler.ir.dims import Batch, Shape
from qcompiler.ir.editing import Editor
from qcompiler.ir.linear import is_linear
from qcompiler.ir.passes import Pass
from qcompiler.ir.shapes import ShapeInfo, infer

_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Gelu", "Relu", "Sigmoid", "Tanh", "Erf", "Identity"})

# Positions on the axis of tokens, ascending.
Tokens = tuple[int, ...]


class DropUnreadTokens(Pass):
    """Computes only the tokens that something reads.

    A classifier that reads its class token alone needs of the last block, behind the attention, the row of that token.

    **Before**
      1. A `Gather` or `Slice` of at most half of the tokens of [B, N, C], behind operators that compute every token by
         itself: linear layers, LayerNormalization over channels, activations, additions.
      2. Several of them, which read different tokens of one tensor.

    **After**
      1. A `Gather` [B, n, C] in front of these operators, where they read others; theirs picks from n.
      2. The tokens that any of them reads, in ascending order.

    **Leaves alone**
      3. Tokens that an operator mixes (attention, means), and those of a graph output.
      4. Operators without a linear layer among them: nothing would be saved.
    """

    def apply(self, graph: gs.Graph) -> bool:
        info = infer(graph)
        reads = _Reads(graph, info)
        wanted = reads.narrowed()
        if not any(is_linear(node) for node in graph.nodes if node.outputs[0].name in wanted):  # 4
            return False
        edit = Editor(graph)
        gathered: dict[tuple[str, Tokens], gs.Variable] = {}
        for node in list(graph.nodes):
            tokens = wanted.get(node.outputs[0].name)
            if tokens is None:
                self._pick(node, wanted, info, edit)
                continue
            for index, tensor in enumerate(node.inputs):
                if not _count(tensor, info) or wanted.get(tensor.name) == tokens:
                    continue
                key = (tensor.name, tokens)
                if key not in gathered:
                    gathered[key] = _gather(tensor, _positions(tokens, wanted.get(tensor.name)), edit)
                node.inputs[index] = gathered[key]
            self.applied += 1
        return self.applied > 0

    def _pick(self, node: gs.Node, wanted: dict[str, Tokens], info: ShapeInfo, edit: Editor) -> None:
        """Makes the node that picks tokens of a narrowed tensor pick them at their new positions."""
        source = node.inputs[0] if node.inputs else None
        have = wanted.get(source.name) if source is not None else None
        if source is None or have is None:
            return
        picked = _picked(node, info)
        assert picked is not None  # whoever reads every token keeps the tensor whole
        positions = _positions(tuple(picked.reshape(-1).tolist()), have).reshape(picked.shape)
        index = edit.constant(f"{node.name}/tokens", positions)
        edit.replace(node.outputs[0], edit.add("Gather", [source, index], f"{node.name}/Gather", {"axis": 1}))
        node.outputs.clear()


@dataclass(frozen=True)
class _Reads:
    """Which tokens of which tensors are read."""

    graph: gs.Graph
    info: ShapeInfo

    def narrowed(self) -> dict[str, Tokens]:
        """For every result of which at most half of the tokens are read, these tokens."""
        outputs = {tensor.name for tensor in self.graph.outputs}
        found: dict[str, Tokens] = {}
        for node in reversed(self.graph.nodes):
            result = node.outputs[0] if len(node.outputs) == 1 else None
            if result is None or result.name in outputs or not self._by_token(node):
                continue
            reads = [self._read_by(reader, result, found) for reader in result.outputs]
            tokens = {token for read in reads if read is not None for token in read}
            if reads and None not in reads and 2 * len(tokens) <= _count(result, self.info):
                found[result.name] = tuple(sorted(tokens))
        return found

    def _read_by(self, reader: gs.Node, tensor: gs.Tensor, found: dict[str, Tokens]) -> Tokens | None:
        """The tokens of a tensor that one of its readers needs; None for all."""
        if len(reader.outputs) == 1 and reader.outputs[0].name in found:
            return found[reader.outputs[0].name]
        picked = _picked(reader, self.info) if reader.inputs[0] is tensor else None
        return tuple(picked.reshape(-1).tolist()) if picked is not None else None

    def _by_token(self, node: gs.Node) -> bool:
        """Whether a node computes every token of [B, N, C] from the same token of its inputs."""
        if not _count(node.outputs[0], self.info):
            return False
        if node.op == "LayerNormalization":
            return node.attrs.get("axis", -1) in (-1, 2) and _count(node.inputs[0], self.info) > 0
        if node.op in _ELEMENTWISE:
            return all(self._matches(tensor, self.info.shape(node.outputs[0])) for tensor in node.inputs)
        return is_linear(node)

    def _matches(self, tensor: gs.Tensor, shape: Shape | None) -> bool:
        """Whether an operand holds one row for each token, or what is the same for all of them."""
        own = self.info.shape(tensor)
        if own is None or shape is None:
            return False
        if is_variable(tensor) and len(own) == 3:
            return own[1] == shape[1] and own[0] == shape[0]
        return len(own) < 2 or own[-2] == 1


def _count(tensor: gs.Tensor, info: ShapeInfo) -> int:
    """How many tokens a tensor [B, N, C] holds; 0 for one of another kind and for a single token."""
    shape = info.shape(tensor)
    if not is_variable(tensor) or shape is None or len(shape) != 3 or isinstance(shape[1], Batch):
        return 0
    return shape[1] if shape[1] > 1 else 0


def _picked(node: gs.Node, info: ShapeInfo) -> np.ndarray | None:
    """The tokens that a Gather or Slice takes, in the shape of its index; None for other operators."""
    count = _count(node.inputs[0], info) if node.inputs else 0
    if not count:
        return None
    positions = np.arange(count)
    constants = [array_of(tensor) for tensor in node.inputs[1:]]
    if node.op == "Gather" and node.attrs.get("axis", 0) in (1, -2) and constants[0] is not None:
        return positions[constants[0]]
    if node.op != "Slice" or len(constants) < 3 or any(values is None for values in constants):
        return None
    start, end, axes, step = (*(np.asarray(values).reshape(-1) for values in constants), np.ones(1, np.int64))[:4]
    if axes.tolist() not in ([1], [-2]):
        return None
    return positions[int(start[0]) : int(end[0]) : int(step[0])] if step[0] > 0 else None


def _positions(tokens: Tokens, have: Tokens | None) -> np.ndarray:
    """Where tokens stand among those that a tensor holds; None when it holds all."""
    held = list(tokens) if have is None else [have.index(token) for token in tokens]
    return np.array(held, np.int64)


def _gather(tensor: gs.Tensor, positions: np.ndarray, edit: Editor) -> gs.Variable:
    index = edit.constant(f"{tensor.name}/read", positions)
    return edit.add("Gather", [tensor, index], f"{tensor.name}/Gather", {"axis": 1})
