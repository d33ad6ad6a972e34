"""Moves changes of the order of tokens to where they cost least."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs

from qcompiler.ir.constants import is_constant, is_variable, producer, single_consumer
from qcompiler.ir.dims import Shape, reshape_target, to_text
from qcompiler.ir.editing import Editor
from qcompiler.ir.passes import Pass
from qcompiler.ir.shapes import ShapeInfo, infer
from qcompiler.ir.token_moves import TokenMove, token_move


class OrderTokens(Pass):
    """Moves changes of the order of tokens to where they cost least, and makes one node of each.

    Windows, shifts and their reversals only permute the tokens of an image. Operators that compute every token by
    itself do not see the difference, so the order may change in front of them as well.

    **Before**: `Reshape`, `Transpose`, `Slice`, `Split` and `Concat` that permute whole tokens of an image
      1. between a `LayerNormalization` that nothing else reads and a lowered linear layer that quantizes by token;
      2. between another tensor and such a layer, where two or more of them copy memory;
      3. between such a layer and an `Add` of a tensor in the same order.

    **After**
      1. `Gather` of the tokens in front of the LayerNormalization, which then belongs to the linear layer.
      2. `Gather` of the tokens in front of the linear layer.
      3. `Gather` in front of the linear layer, whose result the `Add` reads: the addition then belongs to it.

    There is no `Gather` where the order stays the same after all.

    **Leaves alone**
      4. Layers whose quantizers look at all tokens of a window.
      5. Results that something else reads on the way, and tokens that are cut, repeated or padded.
    """

    def apply(self, graph: gs.Graph) -> bool:
        info = infer(graph)
        edit = Editor(graph)
        for node in list(graph.nodes):
            if node.op == "Add":
                self._order_addition(node, info, edit)
        graph.cleanup().toposort()
        info = infer(graph)
        for node in list(graph.nodes):
            if _is_by_token(node):
                self._order_input(node, info, edit)
        return self.applied > 0

    def _order_input(self, linear: gs.Node, info: ShapeInfo, edit: Editor) -> None:
        tensor = linear.inputs[0]
        move = token_move(tensor, edit.graph, info)
        shape = info.shape(tensor)
        if move is None or shape is None or single_consumer(tensor, edit.graph) is None:
            return
        norm = producer(move.source)
        if norm is None or not _is_movable(norm, move, edit.graph):
            norm = None
        if move.copies < (1 if norm else 2):
            return
        site = _Site(linear.name, info, edit)
        x = site.ordered(site.flat(norm.inputs[0] if norm else move.source, move.flat), move)
        x = site.reshaped(x, move.flat, shape)
        if norm:
            attributes = {**norm.attrs, "axis": -1}
            x = edit.add("LayerNormalization", [x, *norm.inputs[1:]], f"{norm.name}/ordered", attributes)
            site.annotate(x, shape)
        linear.inputs[0] = x
        self.applied += 1

    def _order_addition(self, addition: gs.Node, info: ShapeInfo, edit: Editor) -> None:
        for side, other in ((0, 1), (1, 0)):
            tensor, residual = addition.inputs[side], addition.inputs[other]
            linear = self._linear_behind(tensor, residual, info, edit)
            if linear is not None:
                self._add_in_order(addition, residual, *linear, info, edit)
                return

    def _linear_behind(
        self, tensor: gs.Tensor, residual: gs.Tensor, info: ShapeInfo, edit: Editor
    ) -> tuple[gs.Node, TokenMove] | None:
        """The layer whose result, in another order, is one side of an addition."""
        if not is_variable(residual) or info.shape(residual) != info.shape(tensor) or residual is tensor:
            return None
        move = token_move(tensor, edit.graph, info)
        if move is None or move.copies == 0 or single_consumer(tensor, edit.graph) is None:
            return None
        linear = producer(move.source)
        if linear is None or not _is_by_token(linear) or not _is_read_only_by(move.source, move, edit.graph):
            return None
        return linear, move

    def _add_in_order(
        self, addition: gs.Node, residual: gs.Tensor, linear: gs.Node, move: TokenMove, info: ShapeInfo, edit: Editor
    ) -> None:
        given, result = info.shape(linear.inputs[0]), info.shape(addition.outputs[0])
        if given is None or result is None:
            return
        site = _Site(linear.name, info, edit)
        linear.inputs[0] = site.ordered(site.flat(linear.inputs[0], (*move.flat[:2], given[-1])), move)
        for node in move.nodes:
            node.inputs.clear()
        site.annotate(linear.outputs[0], move.flat)
        total = edit.add("Add", [linear.outputs[0], site.flat(residual, move.flat)], f"{addition.name}/ordered")
        site.annotate(total, move.flat)
        for reader in list(addition.outputs[0].outputs):
            if reader.op == "Reshape" and info.shape(reader.outputs[0]) == move.flat:
                edit.replace(reader.outputs[0], total)  # it wanted the tokens of an image on one axis, as they are now
                reader.inputs.clear()
        edit.replace(addition.outputs[0], site.reshaped(total, move.flat, result))
        self.applied += 1


@dataclass(frozen=True)
class _Site:
    """Where nodes are added.

    Attributes:
        name: what their names begin with.
        info: shapes of the graph before the edit.
        edit: the editor.
    """

    name: str
    info: ShapeInfo
    edit: Editor

    def flat(self, tensor: gs.Tensor, flat: Shape) -> gs.Tensor:
        """The tensor with all tokens of an image on one axis; where a Reshape gave it others, what that read."""
        shape = self.info.shape(tensor)
        maker = producer(tensor)
        if maker is not None and maker.op == "Reshape" and self.info.shape(maker.inputs[0]) == flat:
            return maker.inputs[0]
        return self.reshaped(tensor, shape or (), flat)

    def ordered(self, tensor: gs.Tensor, move: TokenMove) -> gs.Tensor:
        """Tokens [batch, N, C] in the order that the move gave them."""
        if move.keeps_order:
            return tensor
        index = self.edit.constant(f"{self.name}/order", move.order)
        result = self.edit.add("Gather", [tensor, index], f"{self.name}/Gather", {"axis": 1})
        result.shape = tensor.shape
        return result

    def reshaped(self, tensor: gs.Tensor, before: Shape, after: Shape) -> gs.Tensor:
        """The tensor in another shape."""
        if before == after:
            return tensor
        target = reshape_target(before, after)
        assert target is not None  # one axis at most depends on the batch
        result = self.edit.reshape(tensor, target, f"{self.name}/Reshape")
        self.annotate(result, after)
        return result

    def annotate(self, tensor: gs.Tensor, shape: Shape) -> None:
        """Writes the shape into a tensor: fusing compares shapes."""
        tensor.shape = [to_text(dim, self.info.batch) for dim in shape]


def _is_by_token(node: gs.Node) -> bool:
    """Whether a lowered linear layer computes every token from that token alone."""
    return node.op == "BlockLinear" or (node.op == "GroupLinear" and node.attrs.get("axis") == -2)


def _is_read_only_by(tensor: gs.Variable, move: TokenMove, graph: gs.Graph) -> bool:
    inside = {id(node) for node in move.nodes}
    return all(id(reader) in inside for reader in tensor.outputs) and not any(tensor is out for out in graph.outputs)


def _is_movable(norm: gs.Node, move: TokenMove, graph: gs.Graph) -> bool:
    return (
        norm.op == "LayerNormalization"
        and norm.attrs.get("axis", -1) in (-1, len(move.source.shape or ()) - 1)
        and all(is_constant(tensor) for tensor in norm.inputs[1:])
        and _is_read_only_by(move.source, move, graph)
    )
