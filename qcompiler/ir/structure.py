"""What a canonical graph consists of: linear layers, attention blocks, normalisations, activations, residuals."""

from __future__ import annotations

import math
from collections import Counter

import onnx_graphsurgeon as gs

from qcompiler.errors import UnsupportedModelError
from qcompiler.ir.attention import AttentionMatch, match_attention
from qcompiler.ir.constants import is_variable, producer
from qcompiler.ir.dims import Batch, Shape, at_batch
from qcompiler.ir.layers import AttentionBlock, Gelu, LayerNorm, LinearLayer, Residual, Skipped, Structure
from qcompiler.ir.layout import is_layout, trace_up
from qcompiler.ir.linear import LinearMatch, linear_at
from qcompiler.ir.shapes import ShapeInfo, infer

# What may stand between a head and the model's output: activations, and the mean of several heads.
_CLOSING = frozenset({"Softmax", "Sigmoid", "LogSoftmax", "Add", "Mul", "Div", "Concat"})

__all__ = ["AttentionBlock", "Gelu", "LayerNorm", "LinearLayer", "Residual", "Skipped", "Structure", "find_structure"]


def find_structure(graph: gs.Graph) -> Structure:
    """Finds the layers of a canonical graph.

    Args:
        graph: a graph after the CANONICALISE passes, sorted.

    Raises:
        UnsupportedModelError: nothing in it can be quantized; the message says what was found instead.
    """
    info = infer(graph)
    softmaxes = [node for node in graph.nodes if node.op == "Softmax"]
    matches = [match_attention(node, graph) for node in softmaxes]
    blocks = [match for match in matches if match is not None]
    attentions = [_attention(match, info) for match in blocks]
    layers = [layer for node in graph.nodes if (layer := linear_at(node, graph)) is not None]
    linears = [_linear(layer, _kind(layer, blocks, graph), info) for layer in layers]
    found = Structure(
        linears=tuple(item for item in linears if isinstance(item, LinearLayer)),
        attentions=tuple(item for item in attentions if isinstance(item, AttentionBlock)),
        norms=tuple(_norm(node) for node in graph.nodes if node.op == "LayerNormalization" and _is_affine(node)),
        gelus=tuple(_gelu(node) for node in graph.nodes if node.op == "Gelu"),
        residuals=tuple(_residual(node) for node in graph.nodes if _is_residual(node, info)),
        unrecognised=tuple(
            node.name
            for node, match in zip(softmaxes, matches, strict=True)
            if match is None and not any(node.outputs[0] is output for output in graph.outputs)
        ),
        skipped=tuple(item for item in (*linears, *attentions) if isinstance(item, Skipped)),
    )
    if not found.linears and not found.attentions:
        operators = ", ".join(f"{count} {op}" for op, count in Counter(n.op for n in graph.nodes).most_common(5))
        raise UnsupportedModelError(
            "nothing in this model can be quantized: no linear layer and no attention block that is recognised; "
            + "".join(f"'{item.name}': {item.reason}; " for item in found.skipped[:1])
            + f"most frequent operators: {operators}"
        )
    return found


def _attention(match: AttentionMatch, info: ShapeInfo) -> AttentionBlock | Skipped:
    shape = info.shape(match.qkv)
    obstacle = _obstacle(shape)
    if shape is None or obstacle:
        return Skipped(match.softmax.name, obstacle)
    dims = at_batch(shape, 1)
    return AttentionBlock(
        name=match.softmax.name.rsplit("/", 1)[0],
        qkv=match.qkv.name,
        output=match.output.name,
        num_heads=match.num_heads,
        head_dim=match.head_dim,
        scale=match.scale,
        bias=match.bias.name if match.bias is not None else None,
        scores=match.scores.name,
        softmax=match.softmax.name,
        mixing=match.mixing.name,
        nodes=tuple(node.name for node in match.nodes),
        tokens=dims[1],
        instances=dims[0] // _images(info, dims[0]),
    )


def _linear(layer: LinearMatch, kind: str, info: ShapeInfo) -> LinearLayer | Skipped:
    shape = info.shape(layer.source)
    obstacle = _obstacle(shape)
    if shape is None or obstacle:
        return Skipped(layer.matmul.name, obstacle)
    dims = at_batch(shape, 1)
    leading = math.prod(dims[:-2]) if len(dims) > 2 else dims[0]
    return LinearLayer(
        name=layer.matmul.name,
        kind=kind,
        source=layer.source.name,
        output=layer.output.name,
        weight=layer.weight.name,
        bias=layer.bias.name if layer.bias is not None else None,
        add=layer.add.name if layer.add is not None else None,
        in_features=int(layer.weight.shape[0]),
        out_features=int(layer.weight.shape[1]),
        tokens=dims[-2] if len(dims) > 2 else 1,
        instances=leading // _images(info, leading),
    )


def _obstacle(shape: Shape | None) -> str:
    """Why rows of a tensor of this shape cannot be told apart by image; empty where they can."""
    if shape is None:
        return "the shape of its input is unknown"
    if len(shape) < 2:
        return "its input is a vector"
    if any(isinstance(dim, Batch) for dim in shape[1:]):  # an assignment of groups would mix the images of a batch
        return f"the batch is not the first axis of its input {list(shape)}"
    return ""


def _kind(layer: LinearMatch, blocks: list[AttentionMatch], graph: gs.Graph) -> str:
    source = trace_up(layer.source).source
    if any(source is tensor for tensor in graph.inputs):
        return "patch_embed"
    if any(source is block.output or source is block.mixing.outputs[0] for block in blocks):
        return "proj"
    maker = producer(source)
    if maker is not None and maker.op == "Gelu":
        return "fc2"
    readers = _readers(layer.output)
    if any(reader is block.split for reader in readers for block in blocks):
        return "qkv"
    if any(reader.op == "Gelu" for reader in readers):
        return "fc1"
    if _reaches_output(layer.output, graph):
        return "head"
    return "other"


def _readers(tensor: gs.Tensor) -> list[gs.Node]:
    """The nodes that read a tensor, looking through layout operators and the join of queries, keys and values."""
    found = []
    for node in tensor.outputs:
        found.append(node)
        if node.op != "Split" and (is_layout(node) or node.op == "Concat"):
            found += _readers(node.outputs[0])
    return found


def _reaches_output(tensor: gs.Tensor, graph: gs.Graph) -> bool:
    if any(tensor is output for output in graph.outputs):
        return True
    return any(
        (is_layout(node) or node.op in _CLOSING) and any(_reaches_output(item, graph) for item in node.outputs)
        for node in tensor.outputs
    )


def _is_affine(node: gs.Node) -> bool:
    """Whether scale and bias of a normalisation are constant: a computed scale belongs to no single layer."""
    return len(node.inputs) == 3 and all(isinstance(tensor, gs.Constant) for tensor in node.inputs[1:])


def _norm(node: gs.Node) -> LayerNorm:
    return LayerNorm(
        name=node.name,
        source=node.inputs[0].name,
        output=node.outputs[0].name,
        gamma=node.inputs[1].name,
        beta=node.inputs[2].name,
        epsilon=float(node.attrs.get("epsilon", 1e-5)),
        channels=int(node.inputs[1].shape[0]),
    )


def _gelu(node: gs.Node) -> Gelu:
    approximate = str(node.attrs.get("approximate", "none"))
    return Gelu(node.name, node.inputs[0].name, node.outputs[0].name, approximate)


def _is_residual(node: gs.Node, info: ShapeInfo) -> bool:
    return (
        node.op == "Add"
        and all(is_variable(tensor) for tensor in node.inputs)
        and info.shape(node.inputs[0]) == info.shape(node.inputs[1])
    )


def _residual(node: gs.Node) -> Residual:
    first, second = node.inputs
    maker = producer(trace_up(first).source)
    made = maker is not None and maker.op in ("MatMul", "Add") and isinstance(maker.inputs[1], gs.Constant)
    other = producer(trace_up(second).source)
    if made and not (other is not None and other.op in ("MatMul", "Add") and isinstance(other.inputs[1], gs.Constant)):
        first, second = second, first
    return Residual(node.name, first.name, second.name, node.outputs[0].name)


def _images(info: ShapeInfo, leading: int) -> int:
    """The number of images in a product of leading axes: 1 where the batch is unknown, else the fixed batch."""
    return math.gcd(leading, info.images)
