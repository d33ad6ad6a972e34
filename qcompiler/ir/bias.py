"""Giving a linear layer another bias."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.editing import Editor
from qcompiler.ir.linear import LinearMatch


def replace_bias(edit: Editor, layer: LinearMatch, bias: np.ndarray, mark: str) -> None:
    """Give a linear layer another bias, also one that had none.

    Args:
        edit: editor of the layer's graph.
        layer: the layer.
        bias: the new bias [D].
        mark: what the name of a bias that is replaced ends in from now on.
    """
    if layer.add is not None and layer.bias is not None:
        layer.add.inputs[1] = edit.constant(f"{layer.bias.name}/{mark}", bias)
        return
    # An Add between the product and its readers, or the output of the graph that it is.
    name, result = layer.matmul.name, layer.matmul.outputs[0]
    product = gs.Variable(edit.free_name(f"{name}/product"), dtype=result.dtype)
    layer.matmul.outputs = [product]
    inputs = [product, edit.constant(f"{name}.bias", bias)]
    edit.graph.nodes.append(gs.Node("Add", edit.free_name(f"{name}/Add"), inputs=inputs, outputs=[result]))
