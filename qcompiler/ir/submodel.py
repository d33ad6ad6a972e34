"""A model made of some nodes of another one."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

import onnx


def needed_nodes(nodes: Sequence[onnx.NodeProto], tensors: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes, of sorted ``nodes``, that ``tensors`` are computed from, in their order."""
    wanted, kept = set(tensors), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(_reads(node))
    return kept[::-1]


def read_tensors(nodes: Iterable[onnx.NodeProto], constants: Iterable[str]) -> list[str]:
    """What sorted ``nodes`` read without computing it, apart from ``constants``, in order of the first reading."""
    known = {"", *constants}  # the empty name is an input left out
    found: dict[str, None] = {}
    for node in nodes:
        found.update(dict.fromkeys(name for name in _reads(node) if name not in known))
        known.update(node.output)
    return list(found)


def constants_read(nodes: Iterable[onnx.NodeProto], constants: Container[str]) -> set[str]:
    """Those of the constants that nodes read, subgraphs included."""
    return {name for node in nodes for name in _reads(node) if name in constants}


def _reads(node: onnx.NodeProto) -> list[str]:
    """What a node reads, with what its subgraphs read of the graph around them."""
    names = list(node.input)
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else ())):
            own = {item.name for item in (*graph.input, *graph.initializer)}
            names += read_tensors(graph.node, own)
            made = own.union(*(inner.output for inner in graph.node))
            names += [item.name for item in graph.output if item.name not in made]
    return names


def submodel(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], inputs: Iterable[str], outputs: Iterable[str]
) -> onnx.ModelProto:
    """A model of ``nodes``, with those initialisers of ``model`` that they read.

    Args:
        model: The model that the nodes come from.
        nodes: Sorted nodes; they may have been edited.
        inputs: Tensors that are fed: float32, unless ``model`` declares another type.
        outputs: Tensors that are returned, likewise.
    """
    declared = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}

    def values(names: Iterable[str]) -> list[onnx.ValueInfoProto]:
        return [
            declared.get(name)
            or onnx.helper.make_tensor_value_info(name, types.get(name) or onnx.TensorProto.FLOAT, None)
            for name in names
        ]

    used = {name for node in nodes for name in _reads(node)}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in used]
    graph = onnx.helper.make_graph(nodes, "part", values(inputs), values(outputs), constants)
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
