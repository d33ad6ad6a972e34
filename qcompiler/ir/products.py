"""The products of a float graph and their multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx_graphsurgeon as gs

from qcompiler.ir.dims import at_batch
from qcompiler.ir.shapes import ShapeInfo

PRODUCTS = frozenset({"MatMul", "Gemm", "Einsum", "Conv", "ConvTranspose"})


def products(graph: gs.Graph, info: ShapeInfo) -> Iterator[tuple[gs.Node, int | None]]:
    """Every product of a graph with its multiply-accumulates per image, those of subgraphs behind their owner.

    Args:
        graph: the graph.
        info: its shapes.

    Yields:
        The node, and its multiply-accumulates; None where shapes are unknown, as in subgraphs, which may run any
        number of times.
    """
    for node in graph.nodes:
        if node.domain in (None, "", "ai.onnx") and node.op in PRODUCTS:
            yield node, macs(node, info)
        for inner in node.subgraphs(recursive=True):
            for item in inner.nodes:
                if item.domain in (None, "", "ai.onnx") and item.op in PRODUCTS:
                    yield item, None


def macs(node: gs.Node, info: ShapeInfo) -> int | None:
    """The multiply-accumulates of one product per image; None where a shape is unknown."""
    shapes = []
    for tensor in [*node.inputs[:2], node.outputs[0]]:
        shape = info.shape(tensor)
        if shape is None:
            return None
        shapes.append(at_batch(shape, 1))
    first, second, result = shapes[0], shapes[1], shapes[-1]
    if node.op == "Einsum":
        found = _einsum(node, info)
    elif node.op == "Gemm":
        found = math.prod(result) * first[0 if node.attrs.get("transA", 0) else 1]
    elif node.op == "Conv":
        found = math.prod(result) * math.prod(second[1:])
    elif node.op == "ConvTranspose":
        found = math.prod(first) * math.prod(second[1:])
    else:
        found = math.prod(result) * (first[-1] if first else 1)
    # Products that do not depend on the image are computed once whatever the batch.
    return None if found is None else max(found // info.images, 1 if found else 0)


def _einsum(node: gs.Node, info: ShapeInfo) -> int | None:
    """Every combination of indices is one multiply-accumulate."""
    sizes: dict[str, int] = {}
    terms = str(node.attrs["equation"]).replace(" ", "").split("->")[0].split(",")
    for term, tensor in zip(terms, node.inputs, strict=True):
        shape = info.shape(tensor)
        if shape is None or "." in term:
            return None
        sizes |= dict(zip(term, at_batch(shape, 1), strict=True))
    return math.prod(sizes.values())
