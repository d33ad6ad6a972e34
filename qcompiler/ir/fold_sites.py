"""Where channel-wise factors and shifts can move from a LayerNormalization into the linear layers behind it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs

from qcompiler.ir.constants import ints_of, is_constant, is_variable
from qcompiler.ir.linear import LinearMatch, is_linear, linear_at
from qcompiler.ir.shapes import ShapeInfo, infer


@dataclass(frozen=True)
class FoldSite:
    """A LayerNormalization whose every reader can take a fold, by name.

    Attributes:
        norm: Name of the LayerNormalization.
        consumers: Names of the linear layers that read it, directly or through operators that only move, leave out or
            average tokens: each sees the channels in the order of the LayerNormalization.
    """

    norm: str
    consumers: tuple[str, ...]


@dataclass(frozen=True)
class FoldMatch:
    """The nodes of a :class:`FoldSite`."""

    norm: gs.Node
    consumers: tuple[LinearMatch, ...]


@dataclass(frozen=True)
class Obstacle:
    """Why a LayerNormalization cannot take a fold, and the value at fault."""

    reason: str
    value: object = ""


def fold_sites(graph: gs.Graph) -> tuple[FoldSite, ...]:
    """Every LayerNormalization that can take a fold and has not taken one yet, in node order.

    Args:
        graph: A canonical graph, sorted.
    """
    info = infer(graph)
    norms = [node for node in graph.nodes if node.op == "LayerNormalization" and not is_folded(node)]
    matches = [match_fold(norm, graph, info) for norm in norms]
    return tuple(
        FoldSite(match.norm.name, tuple(layer.matmul.name for layer in match.consumers))
        for match in matches
        if isinstance(match, FoldMatch)
    )


def folded_name(norm: gs.Node, part: str) -> str:
    """Name of the folded ``part`` (``scale`` or ``bias``) of a LayerNormalization: the mark of :func:`is_folded`."""
    return f"{norm.name}.folded_{part}"


def is_folded(norm: gs.Node) -> bool:
    """Whether a LayerNormalization has taken a fold: its scale bears the name that only a fold gives."""
    return len(norm.inputs) > 1 and str(norm.inputs[1].name).startswith(folded_name(norm, "scale"))


def match_fold(norm: gs.Node, graph: gs.Graph, info: ShapeInfo) -> FoldMatch | Obstacle:
    """The linear layers behind a LayerNormalization, or what stands in the way.

    Args:
        norm: A LayerNormalization.
        graph: Its graph, sorted.
        info: Shapes of the graph.
    """
    shape = info.shape(norm.inputs[0])
    constant = len(norm.inputs) == 3 and is_constant(norm.inputs[1]) and is_constant(norm.inputs[2])
    if not constant or shape is None or norm.attrs.get("axis", -1) not in (-1, len(shape) - 1):
        return Obstacle("it has no constant scale and bias over the last axis")
    channels = {id(norm.outputs[0])}  # tensors whose last axis holds the channels of the norm
    consumers: dict[str, LinearMatch] = {}
    for node in graph.nodes:
        if not any(id(tensor) in channels for tensor in node.inputs):
            continue
        layer = linear_at(node, graph) if is_linear(node) else None
        if layer is not None:
            consumers[node.name] = layer
        elif _keeps_channels(node, channels, info):
            channels.update(id(tensor) for tensor in node.outputs)
        else:
            return Obstacle("it is read by something else than linear layers", f"{node.op} '{node.name}'")
    if any(id(tensor) in channels for tensor in graph.outputs):
        return Obstacle("its result is an output of the graph")
    if not consumers:
        return Obstacle("no linear layer reads it")
    return FoldMatch(norm, tuple(consumers.values()))


def _keeps_channels(node: gs.Node, channels: set[int], info: ShapeInfo) -> bool:
    """Whether every output of ``node`` has a factor per channel when all its inputs do, and nothing else goes in."""
    before = info.shape(node.inputs[0])
    after = info.shape(node.outputs[0]) if node.outputs else None
    if node.op == "Concat":
        joined = all(id(tensor) in channels for tensor in node.inputs)
        return joined and after is not None and node.attrs["axis"] % len(after) != len(after) - 1
    if any(is_variable(tensor) for tensor in node.inputs[1:]) or before is None or after is None:
        return False
    rank, last = len(before), len(before) - 1
    if node.op in ("Reshape", "Flatten"):
        return before[-1] == after[-1]
    if node.op == "Transpose":
        return node.attrs.get("perm", [0])[-1] == last
    if node.op in ("Gather", "Split"):
        return node.attrs.get("axis", 0) % rank != last
    if node.op == "Unsqueeze":
        rank = len(after)
    elif node.op not in ("Slice", "Squeeze", "ReduceMean"):
        return node.op == "Identity"
    index = 3 if node.op == "Slice" else 1
    axes = ints_of(node.inputs[index]) if len(node.inputs) > index else None
    return axes is not None and all(axis % rank != rank - 1 for axis in axes)
