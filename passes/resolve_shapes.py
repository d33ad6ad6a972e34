"""Replaces what computes shapes by constants, with the batch size unknown."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.errors import UnsupportedModelError
from qcompiler.ir.constants import is_variable
from qcompiler.ir.dims import Batch, reshape_target
from qcompiler.ir.editing import Editor
from qcompiler.ir.passes import Pass
from qcompiler.ir.shapes import ShapeInfo, annotate


class ResolveShapes(Pass):
    """Replaces what computes shapes by constants, with the batch size unknown.

    **Before**
      1. `Reshape(x, s)` where `s` is computed from shapes (Shape, Gather, Unsqueeze, Concat, ...), or is constant but
         spells a known dimension as -1.
      2. Any other input that is computed from shapes and does not depend on the batch size (pads, slice bounds, ...).
      5. `Resize(x, ..., sizes)` whose sizes are those of `x` along the batch.

    **After**
      1. `Reshape(x, constant)`: known dimensions as numbers; a dimension that is a multiple of the unknown batch size
         as 0 where it is that of `x` on the same axis, else as -1.
      2. The input is an initialiser. All shapes of the graph are annotated.
      5. `sizes` is an initialiser of the other axes, which the attribute `axes` names.

    **Leaves alone**
      3. Inputs whose value depends on the batch size in another operator than Reshape (such as Expand).
      4. `Reshape(x, constant)` whose constant keeps dimensions (0) or leaves one open (-1) for the batch.

    **Refuses the model**: a Reshape whose target cannot be resolved.
    """

    def apply(self, graph: gs.Graph) -> bool:
        info = annotate(graph)
        edit = Editor(graph)
        for node in graph.nodes:
            if node.op == "Resize":
                self._resolve_sizes(node, info, edit)
            if node.op == "Reshape":
                self._resolve_reshape(node, info, edit)
            else:
                self._resolve_inputs(node, info, edit)
        return self.applied > 0

    def _resolve_reshape(self, node: gs.Node, info: ShapeInfo, edit: Editor) -> None:
        before, after = info.shape(node.inputs[0]), info.shape(node.outputs[0])
        if before is None or after is None:
            if is_variable(node.inputs[1]):
                raise UnsupportedModelError(
                    f"the shape of node '{node.name}' (Reshape) cannot be computed from the image size and the batch; "
                    "export the model with a fixed image size"
                )
            return
        target = reshape_target(before, after)
        if target is None:
            raise UnsupportedModelError(f"node '{node.name}' (Reshape) mixes the batch with other axes: {after}")
        current = node.inputs[1]
        if isinstance(current, gs.Constant) and _keeps(np.asarray(current.values).tolist(), target, node):  # 4
            return
        node.inputs[1] = edit.constant(f"{node.name}/shape", target)  # 1
        node.attrs.pop("allowzero", None)
        self.applied += 1

    def _resolve_sizes(self, node: gs.Node, info: ShapeInfo, edit: Editor) -> None:
        """Case 5."""
        before = info.shape(node.inputs[0])
        sizes = info.values.get(node.inputs[3].name) if len(node.inputs) > 3 else None
        if before is None or sizes is None or sizes.dtype != object or "axes" in node.attrs:
            return
        axes = [axis for axis, dim in enumerate(before) if sizes[axis] != dim] or [len(before) - 1]
        if any(isinstance(sizes[axis], Batch) for axis in axes):
            self.refuse(node, "its sizes depend on the batch size", sizes.tolist())
            return
        node.attrs["axes"] = axes
        node.inputs[3] = edit.constant(f"{node.name}/sizes", [int(sizes[axis]) for axis in axes])
        self.applied += 1

    def _resolve_inputs(self, node: gs.Node, info: ShapeInfo, edit: Editor) -> None:
        for index, tensor in enumerate(node.inputs):
            value = info.values.get(tensor.name) if is_variable(tensor) else None
            if value is None or node.outputs[0].name in info.values:
                continue
            if value.dtype == object:  # 3
                self.refuse(node, "an input depends on the batch size", value.tolist())
                continue
            node.inputs[index] = edit.constant(f"{tensor.name}/value", value)  # 2
            self.applied += 1


def _keeps(current: list[int], target: list[int], node: gs.Node) -> bool:
    """Whether a constant target is as good as the canonical one: it leaves open what that leaves open."""
    if node.attrs.get("allowzero", 0):
        return False
    return all(
        have == want or (have in (0, -1) and want in (0, -1)) or have == 0
        for have, want in zip(current, target, strict=True)
    )
