"""Finds LayerNormalization spelled as mean, difference, variance and division."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import array_of, ints_of, is_variable, producer, scalar_of, single_consumer
from qcompiler.ir.editing import Editor
from qcompiler.ir.passes import Pass
from qcompiler.ir.shapes import ShapeInfo, infer


class FuseLayerNorm(Pass):
    """Finds LayerNormalization spelled as mean, difference, variance and division.

    **Before**
      1. `m = ReduceMean(x)`, `d = Sub(x, m)`, `v = ReduceMean(Pow(d, 2))` or `ReduceMean(Mul(d, d))`, all over the last
         axis; `s = Sqrt(Add(v, epsilon))`; `Div(d, s)`, or `Mul(d, Reciprocal(s))`, `Mul(d, Div(1, s))`.
      2. The same, followed by `Mul(gamma)` and `Add(beta)` with one constant per channel, or by one of the two.
      3. `LayerNormalization(x, gamma)` without beta.

    **After**: `LayerNormalization(x, gamma, beta; axis=-1)`; gamma is 1 and beta 0 where they are missing. The
    difference may be spelled by two equal nodes.

    **Leaves alone**
      4. Means over other axes (batch, spatial), and inner results that something else reads.
      5. Scales or shifts that are not one constant per channel: they stay behind the LayerNormalization.
    """

    def apply(self, graph: gs.Graph) -> bool:
        info = infer(graph)
        edit = Editor(graph)
        for node in list(graph.nodes):
            if node.op == "Sqrt":
                self._fuse(node, info, edit)
            elif node.op == "LayerNormalization" and len(node.inputs) < 3:  # 3
                gamma = node.inputs[1]
                if isinstance(gamma, gs.Constant):
                    node.inputs.append(edit.constant(f"{node.name}/beta", np.zeros(gamma.shape, np.float32)))
                    self.applied += 1
        return self.applied > 0

    def _fuse(self, sqrt: gs.Node, info: ShapeInfo, edit: Editor) -> None:
        found = _normalised(sqrt, info)
        if found is None:
            self.refuse(sqrt, "not the standard deviation of a LayerNormalization over the last axis")  # 4
            return
        source, result, epsilon = found
        shape = info.shape(source)
        channels = shape[-1] if shape else None
        if not isinstance(channels, int):
            self.refuse(sqrt, "the number of channels is unknown", channels)
            return
        gamma, result = _per_channel(result, "Mul", channels, edit.graph)  # 2
        beta, result = _per_channel(result, "Add", channels, edit.graph)
        name = sqrt.name.rsplit("/", 1)[0] + "/LayerNormalization"
        norm = edit.add(
            "LayerNormalization",
            [
                source,
                gamma or edit.constant(f"{name}/gamma", np.ones(channels, np.float32)),
                beta or edit.constant(f"{name}/beta", np.zeros(channels, np.float32)),
            ],
            name,
            {"axis": -1, "epsilon": epsilon},
        )
        edit.replace(result, norm)
        self.applied += 1


def _normalised(sqrt: gs.Node, info: ShapeInfo) -> tuple[gs.Tensor, gs.Variable, float] | None:
    """`(x, normalised x, epsilon)` for the square root of a variance plus epsilon."""
    total = producer(sqrt.inputs[0])
    if total is None or total.op != "Add":
        return None
    pairs = [(total.inputs[0], scalar_of(total.inputs[1])), (total.inputs[1], scalar_of(total.inputs[0]))]
    variance, epsilon = next(((tensor, value) for tensor, value in pairs if value is not None), (None, None))
    mean = producer(variance) if variance is not None else None
    if mean is None or epsilon is None or not _is_last_mean(mean, info):
        return None
    square = producer(mean.inputs[0])
    if square is None:
        return None
    squared = square.op == "Pow" and scalar_of(square.inputs[1]) == 2.0
    if not squared and not (square.op == "Mul" and square.inputs[0] is square.inputs[1]):
        return None
    source = _centred(square.inputs[0], info)
    result = _divided(sqrt.outputs[0], source, info) if source is not None else None
    return (source, result, epsilon) if source is not None and result is not None else None


def _centred(difference: gs.Tensor, info: ShapeInfo) -> gs.Tensor | None:
    """X for `x - mean(x)`, else None."""
    node = producer(difference)
    if node is None or node.op != "Sub":
        return None
    mean = producer(node.inputs[1])
    if mean is None or not _is_last_mean(mean, info) or mean.inputs[0] is not node.inputs[0]:
        return None
    return node.inputs[0]


def _divided(deviation: gs.Variable, source: gs.Tensor, info: ShapeInfo) -> gs.Variable | None:
    """The tensor `(x - mean) / deviation`, in its three spellings."""
    if len(deviation.outputs) != 1:
        return None
    node = deviation.outputs[0]
    if node.op == "Reciprocal" or (node.op == "Div" and scalar_of(node.inputs[0]) == 1.0):
        inverse = node.outputs[0]
        if len(inverse.outputs) != 1 or inverse.outputs[0].op != "Mul":
            return None
        node = inverse.outputs[0]
        numerator = next((tensor for tensor in node.inputs if tensor is not inverse), inverse)
    elif node.op == "Div" and node.inputs[1] is deviation:
        numerator = node.inputs[0]
    else:
        return None
    return node.outputs[0] if _centred(numerator, info) is source else None


def _is_last_mean(node: gs.Node, info: ShapeInfo) -> bool:
    if node.op != "ReduceMean" or not node.attrs.get("keepdims", 1) or len(node.inputs) < 2:
        return False
    shape = info.shape(node.inputs[0])
    return shape is not None and ints_of(node.inputs[1]) in ([-1], [len(shape) - 1])


def _per_channel(
    tensor: gs.Variable, op: str, channels: int, graph: gs.Graph
) -> tuple[gs.Constant | None, gs.Variable]:
    """The constant that the one reader multiplies with or adds, per channel, and the reader's result."""
    node = single_consumer(tensor, graph)
    if node is None or node.op != op:
        return None, tensor
    constant = next((item for item in node.inputs if not is_variable(item)), None)
    values = array_of(constant) if constant is not None else None
    if constant is None or values is None or values.shape not in ((channels,), (1, channels), (1, 1, channels)):  # 5
        return None, tensor
    if values.ndim > 1:
        return gs.Constant(f"{constant.name}/flat", values.reshape(-1)), node.outputs[0]
    return constant, node.outputs[0]
