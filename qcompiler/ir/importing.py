"""From a model file's protocol buffers to the graph that passes edit."""

from __future__ import annotations

import ast

import onnx
import onnx.inliner
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.ir.tensor import LazyValues

from qcompiler.ir.weight_files import MappedValues, is_external

# Where torch's graph-based exporter records the module that a node came from.
_SCOPES = "pkg.torch.onnx.name_scopes"


def to_graph(model: onnx.ModelProto) -> gs.Graph:
    """Imports a model: functions of the model are inlined, nodes get unique names that tell their module.

    Args:
        model: the model; it is not changed.

    Returns:
        The graph, sorted.
    """
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    graph = gs.import_onnx(model)
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Constant) and isinstance(tensor._values, LazyValues):
            _own(tensor)
    taken: set[str] = set()
    for node, proto in zip(graph.nodes, model.graph.node, strict=True):
        node.name = _unique(_scope_name(proto) or node.name or node.op, taken)
        if node.domain == "ai.onnx":
            node.domain = None
    return graph.toposort()


def _own(constant: gs.Constant) -> None:
    """Lets a constant that was not read yet have a tensor of its own: it is renamed with the constant on export."""
    tensor = onnx.TensorProto()
    tensor.CopyFrom(constant._values.tensor)
    constant.values = LazyValues(tensor)
    if is_external(tensor):
        constant.values = MappedValues(tensor)
        constant.data_location = None  # of the values once they are changed


def _scope_name(proto: onnx.NodeProto) -> str:
    """A path as the older exporter writes it (`/blocks.0/attn/qkv/MatMul`), from the newer exporter's record."""
    for entry in proto.metadata_props:
        if entry.key == _SCOPES:
            try:
                scopes = [scope for scope in ast.literal_eval(entry.value) if scope]
            except (ValueError, SyntaxError):
                return ""
            if len(scopes) > 1:
                return f"/{scopes[-2].replace('.', '/')}/{proto.op_type}"
    return ""


def _unique(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 0
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name
