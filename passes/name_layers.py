"""Gives layers and their weights stable names."""

from __future__ import annotations

import re

import onnx_graphsurgeon as gs

from qcompiler.ir.attention import AttentionMatch, match_attention
from qcompiler.ir.editing import Editor
from qcompiler.ir.linear import linear_at
from qcompiler.ir.passes import Pass

# What earlier passes append to the name of an initialiser that they change.
_DERIVED = re.compile(r"(/(matrix|transposed|scaled|flat|weight|bias|value))+$")

# Operators that are layers, with the initialisers they have.
_NAMED: dict[str, tuple[str, ...]] = {"LayerNormalization": ("weight", "bias"), "Gelu": ()}


class NameLayers(Pass):
    """Gives layers, their tensors and their weights stable names.

    **Before**
      1. Linear layers, LayerNormalization and Gelu nodes named by the exporter: a path such as
         `/blocks/blocks.0/attn/qkv/MatMul`, or nothing that tells the layer.
      2. The nodes of an attention block, and all others, with such paths.

    **After**
      1. The node is named like the module in the original model (`blocks.0.attn.qkv`): from its path, else from its
         initialiser `blocks.0.attn.qkv.weight`, else its name is kept. Its initialisers are `<layer>.weight` and
         `<layer>.bias`; one that several layers share is copied.
      2. `<module>/<operator>`; inside of an attention block the operator tells its part (`scores`, `softmax`, ...).
      3. Tensors are named after the node that computes them: `<node>:0`; graph inputs and outputs keep their names.

    The second use of a name gets a number.

    **Leaves alone**
      4. Names that are in this form already.
    """

    def apply(self, graph: gs.Graph) -> bool:
        before = _all_names(graph)
        blocks = [match for node in graph.nodes if (match := match_attention(node, graph)) is not None]
        wanted: dict[int, str] = {}
        for block in blocks:
            wanted |= _attention_names(block)
        layers = [layer for node in graph.nodes if (layer := linear_at(node, graph)) is not None]
        for layer in layers:
            wanted[id(layer.matmul)] = _layer_name(layer.matmul)
        biases = {id(layer.add) for layer in layers}
        names: set[str] = set()
        for node in graph.nodes:
            if node.op in _NAMED:
                wanted[id(node)] = _layer_name(node)
            if id(node) in biases:
                continue
            node.name = _unused(wanted.get(id(node)) or _path_name(node), names)
        for layer in layers:
            if layer.add is not None:
                layer.add.name = _unused(f"{layer.matmul.name}/Add", names)
        edit = Editor(graph)
        for layer in layers:
            self._name_initialiser(layer.matmul, 1, f"{layer.matmul.name}.weight", edit)
            if layer.add is not None:
                self._name_initialiser(layer.add, 1, f"{layer.matmul.name}.bias", edit)
        for node in graph.nodes:
            for index, suffix in enumerate(_NAMED.get(node.op, ()), start=1):
                self._name_initialiser(node, index, f"{node.name}.{suffix}", edit)
        for block in blocks:
            if block.bias is not None and block.bias_nodes:
                adding = next(node for node in block.bias_nodes if node.op == "Add")
                self._name_initialiser(adding, 1, f"{block.softmax.name.rsplit('/', 1)[0]}.bias", edit)
        _name_tensors(graph)
        self.applied = sum(old != new for old, new in zip(before, _all_names(graph), strict=True))
        return self.applied > 0

    def _name_initialiser(self, node: gs.Node, index: int, name: str, edit: Editor) -> None:
        constant = node.inputs[index] if index < len(node.inputs) else None
        if not isinstance(constant, gs.Constant) or constant.name == name:
            return
        if len(constant.outputs) == 1:
            constant.name = edit.free_name(name)
        else:
            node.inputs[index] = edit.constant(name, constant.values)


def _layer_name(node: gs.Node) -> str:
    return _module_name(node.name) or _from_initialiser(node) or node.name


def _attention_names(block: AttentionMatch) -> dict[int, str]:
    scope = _module_name(block.softmax.name) or block.softmax.name.rsplit("/", 1)[0]
    parts = {
        "split": [block.split],
        "scores": [block.scores],
        "scale": [block.scaling],
        "add_bias": [node for node in block.bias_nodes if node.op == "Add"],
        "windows": [node for node in block.bias_nodes if node.op != "Add"],
        "softmax": [block.softmax],
        "mixing": [block.mixing],
        "join": list(block.joining),
    }
    names = {id(node): f"{scope}/{part}" for part, nodes in parts.items() for node in nodes}
    for node, letter in zip(block.heads, "qqkkvv", strict=True):
        names[id(node)] = f"{scope}/{letter}_{node.op.lower()}"
    return names


def _path_name(node: gs.Node) -> str:
    """`blocks.0/Add` for `/blocks/blocks.0/Add_1`; a name without a leading slash is kept."""
    if not node.name.startswith("/"):
        return node.name
    module = _module_name(node.name)
    return f"{module}/{node.op}" if module else node.op


def _name_tensors(graph: gs.Graph) -> None:
    fixed = {tensor.name for tensor in [*graph.inputs, *graph.outputs]}
    for node in graph.nodes:
        for index, tensor in enumerate(node.outputs):
            if tensor.name and tensor.name not in fixed:
                tensor.name = f"{node.name}:{index}"


def _all_names(graph: gs.Graph) -> list[str]:
    return [
        name
        for node in graph.nodes
        for name in (node.name, *(item.name for item in node.inputs), *(item.name for item in node.outputs))
    ]


def _module_name(path: str) -> str:
    """`blocks.0.attn.qkv` for `/blocks/blocks.0/attn/qkv/MatMul`; empty without a path."""
    segments = [segment for segment in path.split("/") if segment]
    if "/" not in path or len(segments) < 2:
        return ""
    kept = [
        segment
        for segment, following in zip(segments[:-1], [*segments[1:-1], ""], strict=True)
        if not following.startswith(segment + ".")
    ]
    return ".".join(kept)


def _from_initialiser(node: gs.Node) -> str:
    """`blocks.0.attn.qkv` for an initialiser `blocks.0.attn.qkv.weight` that nothing else reads."""
    readers = [node, *(reader for tensor in node.outputs for reader in tensor.outputs if reader.op == "Add")]
    for tensor in (tensor for reader in readers for tensor in reader.inputs[1:]):
        if isinstance(tensor, gs.Constant) and len(tensor.outputs) == 1:
            name = _DERIVED.sub("", tensor.name)
            for suffix in (".weight", ".bias"):
                if name.endswith(suffix) and len(name) > len(suffix):
                    return name[: -len(suffix)]
    return ""


def _unused(wanted: str, names: set[str]) -> str:
    name, number = wanted, 0
    while name in names:
        number += 1
        name = f"{wanted}_{number}"
    names.add(name)
    return name
