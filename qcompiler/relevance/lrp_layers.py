"""Where the relevance of a layer is read."""

from __future__ import annotations

import onnx

from qcompiler.ir.structure import Structure


def relevance_tensors(model: onnx.ModelProto, structure: Structure) -> dict[str, str]:
    """The tensor at which each layer's relevance is read.

    Args:
        model: Canonical float model.
        structure: What was found in it.

    Returns:
        Layer -> tensor. A linear layer goes by its name, and its result behind the bias is read; an attention block has
        two products that go by the names of their MatMul nodes: for queries and keys the Softmax's input is read, for
        probabilities and values the result.
    """
    nodes = {node.name: node for node in model.graph.node}
    found = {layer.name: layer.output for layer in structure.linears}
    for block in structure.attentions:
        found[block.scores] = nodes[block.softmax].input[0]
        found[block.mixing] = nodes[block.mixing].output[0]
    return found
