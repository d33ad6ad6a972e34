"""Joins class tokens to the patches without asking for the batch size."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import array_of, is_variable, producer, single_consumer
from qcompiler.ir.dims import fixed
from qcompiler.ir.editing import Editor
from qcompiler.ir.passes import Pass
from qcompiler.ir.shapes import ShapeInfo, infer


class PadTokens(Pass):
    """Joins class tokens to the patches without asking for the batch size.

    **Before**
      1. `Concat(Expand(c, ...), x, Expand(d, ...); axis=1)` with x [B, N, C], constants c [1, n, C] before x and
         constants d [1, m, C] after it, the Expand bringing them to the unknown batch size of x.
      2. The same, followed by `Add` of a constant [1, n + N + m, C] or [n + N + m, C] (position embedding).

    **After**
      1. `Add(Pad(x; n rows of zeros before, m after), e)`, where e [1, n + N + m, C] holds c, zeros and d.
      2. The position embedding is added into e: one Add.

    The result is the same to the bit: adding zero changes no value.

    **Leaves alone**
      3. Joins of two computed tensors, other axes, tokens that differ between instances: `CopyTokens` is next.
    """

    def apply(self, graph: gs.Graph) -> bool:
        info = infer(graph)
        edit = Editor(graph)
        for node in [node for node in graph.nodes if node.op == "Concat"]:
            if any(_is_expanded(tensor) for tensor in node.inputs):
                self._rewrite(node, info, edit)
        return self.applied > 0

    def _rewrite(self, node: gs.Node, info: ShapeInfo, edit: Editor) -> None:
        shape = info.shape(node.outputs[0])
        patches = [index for index, tensor in enumerate(node.inputs) if not _is_expanded(tensor)]
        if shape is None or len(shape) != 3 or node.attrs["axis"] not in (1, -2):
            self.refuse(node, "not a join of tokens [B, N, C]", shape)  # 3
            return
        if len(patches) != 1 or not is_variable(node.inputs[patches[0]]):
            self.refuse(node, "not one computed tensor among constant tokens", len(patches))  # 3
            return
        rows = []
        for tensor in node.inputs:
            if not _is_expanded(tensor):
                part = info.shape(tensor)
                assert part is not None  # the shape of the Concat is known
                rows.append(np.zeros((fixed(part[1]), fixed(shape[2])), np.float32))
                continue
            values = _expanded(tensor)
            full = info.shape(tensor)
            if values is None or full is None or (values.ndim == 3 and values.shape[0] != 1):
                self.refuse(node, "the tokens differ between instances")  # 3
                return
            values = values.reshape((1,) * (3 - values.ndim) + values.shape)
            rows.append(np.broadcast_to(values[0], (fixed(full[1]), fixed(full[2]))))
        before = sum(len(part) for part in rows[: patches[0]])
        after = sum(len(part) for part in rows[patches[0] + 1 :])
        tokens = np.concatenate(rows)[None]
        result, position = node.outputs[0], _position(node.outputs[0], tokens.shape, edit.graph)
        if position is not None:  # 2
            tokens = tokens + position[1]
            result = position[0]
        scope = node.name.rsplit("/", 1)[0] if "/" in node.name else ""
        base = f"{scope}/tokens"
        pads = edit.constant(f"{base}/pads", [0, before, 0, 0, after, 0])
        x = edit.add("Pad", [node.inputs[patches[0]], pads], f"{base}/Pad", {"mode": "constant"})
        embedding = edit.constant(f"{base}/embedding".lstrip("/"), tokens.astype(np.float32))
        x = edit.add("Add", [x, embedding], f"{base}/Add")
        maker = result.inputs[0]
        edit.replace(result, x)
        maker.outputs.clear()
        self.applied += 1


def _is_expanded(tensor: gs.Tensor) -> bool:
    node = producer(tensor)
    return node is not None and node.op == "Expand" and isinstance(node.inputs[0], gs.Constant)


def _expanded(tensor: gs.Tensor) -> np.ndarray | None:
    node = producer(tensor)
    return array_of(node.inputs[0]) if node is not None else None


def _position(tensor: gs.Variable, shape: tuple[int, ...], graph: gs.Graph) -> tuple[gs.Variable, np.ndarray] | None:
    """The result of the Add of a position embedding, and the embedding."""
    node = single_consumer(tensor, graph)
    if node is None or node.op != "Add":
        return None
    values = array_of(next(item for item in node.inputs if item is not tensor))
    if values is None or values.shape[-2:] != shape[-2:] or values.size != int(np.prod(shape)):
        return None
    return node.outputs[0], values.reshape(shape)
