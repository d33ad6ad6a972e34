"""Removes nodes that return their input, and joins neighbouring layout operators."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.attention import match_attention
from qcompiler.ir.constants import array_of, is_variable, producer, single_consumer
from qcompiler.ir.dims import reshape_target
from qcompiler.ir.editing import Editor
from qcompiler.ir.passes import Pass
from qcompiler.ir.shapes import ShapeInfo, infer

_BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div"})


class RemoveNoops(Pass):
    """Removes nodes that return their input, and joins neighbouring layout operators.

    **Before**
      1. `Identity(x)`, `Dropout(x)` (its mask is not read).
      2. `Cast(x)` to the type of x.
      3. `Reshape`, `Expand`, `Slice` with positive steps, `Tile`, `Concat` of one tensor: to the shape of x.
      4. `Transpose(x)` that moves no axis.
      5. `Pad(x)` by zero elements.
      6. `Add(x, 0)`, `Sub(x, 0)`, `Mul(x, 1)`, `Div(x, 1)` with a scalar.
      7. `Reshape(Reshape(x))`, `Transpose(Transpose(x))` where the inner result has one reader.
      8. `Add(Expand(x), y)` (Sub, Mul, Div) where y has the expanded shape.

    **After**: x itself (1-6); one Reshape or Transpose (7); `Add(x, y)` (8).

    **Leaves alone**
      9. A node between a graph input and a graph output, where the name of the output needs a node.
      10. `Squeeze`, `Unsqueeze` and `Flatten`, which are layout operators like Reshape.
      11. The nodes of an attention block in its canonical spelling, also a `Mul` by 1.
    """

    def apply(self, graph: gs.Graph) -> bool:
        while self._sweep(graph):  # joined operators may be no-ops themselves
            graph.cleanup().toposort()
        return self.applied > 0

    def _sweep(self, graph: gs.Graph) -> bool:
        before = self.applied
        info = infer(graph)
        edit = Editor(graph)
        matches = [match_attention(node, graph) for node in graph.nodes if node.op == "Softmax"]
        kept_nodes = {id(node) for match in matches if match is not None for node in match.nodes}
        for node in list(graph.nodes):
            if id(node) in kept_nodes:  # 11
                continue
            if not node.inputs or (not is_variable(node.inputs[0]) and node.op not in _BROADCASTING):
                continue
            kept = _kept_input(node, info)
            if kept is not None:
                if any(node.outputs[0] is output for output in graph.outputs) and producer(kept) is None:  # 9
                    continue
                edit.replace(node.outputs[0], kept)
                node.outputs.clear()
                self.applied += 1
            elif node.op in ("Reshape", "Transpose"):
                inner = producer(node.inputs[0])
                if inner is None or id(inner) in kept_nodes:  # 11
                    continue
                if inner.op == node.op and single_consumer(node.inputs[0], graph) is node:
                    self._join(inner, node, info, edit)  # 7
            elif node.op in _BROADCASTING:
                self._drop_expand(node, info)
        return self.applied > before

    def _join(self, inner: gs.Node, node: gs.Node, info: ShapeInfo, edit: Editor) -> None:
        if node.op == "Transpose":
            outer = node.attrs.get("perm", list(range(len(inner.attrs.get("perm", []))))[::-1])
            first = inner.attrs.get("perm", list(range(len(outer)))[::-1])
            node.attrs["perm"] = [int(first[axis]) for axis in outer]
        else:
            before, after = info.shape(inner.inputs[0]), info.shape(node.outputs[0])
            target = reshape_target(before, after) if before is not None and after is not None else None
            if target is None:
                return
            node.inputs[1] = edit.constant(f"{node.name}/shape", target)
            node.attrs.pop("allowzero", None)
        node.inputs[0] = inner.inputs[0]
        self.applied += 1

    def _drop_expand(self, node: gs.Node, info: ShapeInfo) -> None:
        """Case 8."""
        for index, tensor in enumerate(node.inputs):
            expand = producer(tensor)
            other = info.shape(node.inputs[1 - index])
            if expand is not None and expand.op == "Expand" and other is not None and other == info.shape(tensor):
                node.inputs[index] = expand.inputs[0]
                self.applied += 1
                return


def _kept_input(node: gs.Node, info: ShapeInfo) -> gs.Tensor | None:
    """The input that the node returns unchanged, or None."""
    source = node.inputs[0]
    same_shape = info.shape(source) is not None and info.shape(source) == info.shape(node.outputs[0])
    if node.op == "Identity":  # 1
        return source
    if node.op == "Dropout":  # 1
        return source if len(node.outputs) < 2 or not node.outputs[1].outputs else None
    if node.op == "Cast":  # 2
        return source if info.dtypes.get(source.name) == int(node.attrs["to"]) else None
    if node.op in ("Reshape", "Expand", "Tile") or (node.op == "Concat" and len(node.inputs) == 1):  # 3
        return source if same_shape else None
    if node.op == "Slice" and same_shape:  # 3
        steps = array_of(node.inputs[4]) if len(node.inputs) > 4 else np.ones(1)
        return source if steps is not None and (steps > 0).all() else None
    if node.op == "Transpose":  # 4
        perm = node.attrs.get("perm")
        return source if perm is not None and list(perm) == sorted(perm) else None
    if node.op == "Pad":  # 5
        pads = array_of(node.inputs[1])
        return source if pads is not None and not pads.any() else None
    if node.op in _BROADCASTING:  # 6
        return _neutral(node, info)
    return None


def _neutral(node: gs.Node, info: ShapeInfo) -> gs.Tensor | None:
    neutral = 0.0 if node.op in ("Add", "Sub") else 1.0
    order = [(0, 1), (1, 0)] if node.op in ("Add", "Mul") else [(0, 1)]
    for kept, other in order:
        values = array_of(node.inputs[other])
        if values is not None and values.size == 1 and values.reshape(())[()] == neutral:
            tensor = node.inputs[kept]
            if is_variable(tensor) and info.shape(tensor) == info.shape(node.outputs[0]) is not None:
                return tensor
    return None
