"""Which products of a float model are quantized, and why the others are not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import onnx
import onnx_graphsurgeon as gs

from qcompiler.ir.constants import is_constant, is_variable, producer
from qcompiler.ir.importing import to_graph
from qcompiler.ir.products import PRODUCTS, products
from qcompiler.ir.shapes import infer
from qcompiler.ir.structure import Structure
from qcompiler.passes.canonical_attention import CanonicalAttention
from qcompiler.passes.linear_to_matmul import LinearToMatmul
from qcompiler.report.coverage import Coverage, FloatProduct
from qcompiler.report.values import LayerReport

# Nodes looked at on the way from a product to the Softmax of its attention.
_LONGEST_WAY = 16


def measure_coverage(model: onnx.ModelProto, structure: Structure, layers: Iterable[LayerReport]) -> Coverage:
    """Count the multiply-accumulates of a canonical model.

    Args:
        model: The canonical float model.
        structure: What was found in it.
        layers: What was quantized.
    """
    quantized = _quantized_nodes(structure, {layer.name for layer in layers})
    graph = to_graph(model)
    done = whole = 0
    left: list[tuple[gs.Node, int | None]] = []
    for node, macs in products(graph, infer(graph)):
        whole += macs or 0
        if node.name in quantized:
            done += macs or 0
        else:
            left.append((node, macs))
    reasons = _refusals(model) | {item.name: item.reason for item in structure.skipped} if left else {}
    top = {id(node) for node in graph.nodes}
    return Coverage(
        macs=whole,
        quantized=done,
        left=tuple(
            FloatProduct(
                node.name or node.outputs[0].name,
                node.op,
                macs,
                _reason(node, reasons) if id(node) in top else "inside of a subgraph, which is kept as it is",
            )
            for node, macs in left
        ),
    )


def _quantized_nodes(structure: Structure, reported: set[str]) -> set[str]:
    found = {layer.name for layer in structure.linears if layer.name in reported}
    for block in structure.attentions:
        if block.name in reported:
            found |= {block.scores, block.mixing}
    return found


def _refusals(model: onnx.ModelProto) -> dict[str, str]:
    """Why the passes that look for layers leave nodes alone, under the names of the canonical graph.

    They do nothing more on a canonical graph, so they run again on a copy: the refusals recorded when the graph was
    canonicalised bear the names that its exporter gave.
    """
    found: dict[str, str] = {}
    for make in (LinearToMatmul, CanonicalAttention):
        graph = to_graph(model)
        item = make()
        item.apply(graph)
        for refusal in item.refusals:
            found[refusal.node] = refusal.reason + (f" ({refusal.value})" if refusal.value else "")
    return found


def _reason(node: gs.Node, refusals: Mapping[str, str]) -> str:
    if node.op in ("Conv", "ConvTranspose"):
        grouped = "grouped " if int(node.attrs.get("group", 1)) > 1 else ""
        return f"{grouped}convolution; of convolutions only patch embeddings are quantized"
    if all(is_variable(tensor) for tensor in node.inputs[:2]):
        softmax = _softmax(node, _makers) or _softmax(node, _readers)
        if softmax is None:
            return "product of two computed tensors outside of an attention"
        return f"attention: {refusals.get(softmax.name, 'not a spelling that is recognised')}"
    if node.name in refusals:
        return f"linear layer: {refusals[node.name]}"
    if is_constant(node.inputs[0]):
        return "linear layer: its constant is on the left"
    rank = len(node.inputs[1].shape)
    return "linear layer in a form that is not quantized" if rank == 2 else f"linear layer: its weight has {rank} axes"


def _softmax(product: gs.Node, following: Callable[[gs.Node], list[gs.Node]]) -> gs.Node | None:
    """The Softmax nearest to a product on one side, with no other product between them."""
    seen, layer = {id(product)}, [product]
    for _ in range(_LONGEST_WAY):
        layer = [item for node in layer for item in following(node) if id(item) not in seen]
        seen |= {id(item) for item in layer}
        found = next((item for item in layer if item.op == "Softmax"), None)
        if found is not None:
            return found
        layer = [item for item in layer if item.op not in PRODUCTS]
    return None


def _makers(node: gs.Node) -> list[gs.Node]:
    return [made for tensor in node.inputs if (made := producer(tensor)) is not None]


def _readers(node: gs.Node) -> list[gs.Node]:
    return [reader for tensor in node.outputs for reader in tensor.outputs]
