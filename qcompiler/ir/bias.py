"""Giving a linear layer another bias."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from qcompiler.ir.editing import Editor
from qcompiler.ir.linear import LinearMatch


def replace_bias(edit: Editor, layer: LinearMatch, bias: np.ndarray, name: str) -> None:
    """Give a linear layer another bias, also one that had none.

    Args:
        edit: editor of the layer's graph.
        layer: the layer.
        bias: the new bias [D].
        name: name of its initialiser, changed where it is taken.
    """
    constant = edit.constant(name, bias)
    if layer.add is not None and layer.bias is not None:
        layer.add.inputs[1] = constant
        return
    # An Add between the product and its readers, or the output of the graph that it is.
    matmul, result = layer.matmul.name, layer.matmul.outputs[0]
    product = gs.Variable(edit.free_name(f"{matmul}/product"), dtype=result.dtype)
    layer.matmul.outputs = [product]
    edit.graph.nodes.append(
        gs.Node("Add", edit.free_name(f"{matmul}/Add"), inputs=[product, constant], outputs=[result])
    )
