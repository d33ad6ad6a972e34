"""Quantize the two products of attention: queries, keys, values and the softmax's output."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_graphsurgeon as gs

from qcompiler.errors import VerificationError
from qcompiler.ir.block_nodes import add_block_quantizer
from qcompiler.ir.constants import ints_of, producer
from qcompiler.ir.editing import Editor
from qcompiler.ir.group_nodes import add_group_quantizer
from qcompiler.ir.passes import Pass
from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.groups import CHANNELS, ROWS
from qcompiler.quant.plan import AttentionPlan, BlockAttentionPlan

_QUANTIZED_READERS = ["GroupQuantizeLinear", "GroupSort"]
_TOKENS, _TRANSPOSED = [0, 2, 1, 3], [0, 2, 3, 1]  # from heads [B, N, H, D] to [B, H, N, D], and to [B, H, D, N]

_Operands = tuple[gs.Tensor, gs.Tensor, gs.Tensor]


class QuantizeAttention(Pass):
    """Writes the plan of every attention block into the graph as readable nodes.

    **Before**: `MatMul(q, k)`, ..., `Softmax`, `MatMul(p, v)` of a block in the plan, `k` transposed to [.., D, N].
      1. The plan has groups for q, k and v.
      2. The plan cuts the tokens of q, k and v into blocks.
      3. The plan has a codebook for p.

    **After**: each of q, k, p and v passes through its own quantizer.
      1. q and p: rows are items. k: its columns are, for it is transposed. v: channels are.
      2. q: a scale per token. k: the same, and transposed afterwards instead of before. v: a scale per head. p as in 1.
      3. The codes of p pick operands from the levels.

    **Leaves alone**
      4. A Softmax that the plan does not name.
      5. A Softmax without a product of queries and keys in front of it, or, in blocks, one of keys that are not the
         transposed heads of tokens.

    Args:
        plans: Plans by the name of the Softmax.
    """

    def __init__(self, plans: Mapping[str, AttentionPlan | BlockAttentionPlan]) -> None:
        super().__init__()
        self._plans = plans

    def requires(self, graph: gs.Graph) -> None:
        """Every planned block has its Softmax, read by one product or by its own quantizer; blocks divide heads."""
        nodes = {node.name: node for node in graph.nodes}
        for name, plan in self._plans.items():
            node = nodes.get(name)
            readers = [] if node is None else sorted(reader.op for reader in node.outputs[0].outputs)
            if node is None or node.op != "Softmax" or readers not in (["MatMul"], _QUANTIZED_READERS):
                raise VerificationError(f"the plan names '{name}', which is no Softmax of an attention block")
            if isinstance(plan, BlockAttentionPlan):
                _check_blocks(node, plan)

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        for softmax in [node for node in graph.nodes if node.op == "Softmax"]:
            plan = self._plans.get(softmax.name)
            if plan is None:
                self.refuse(softmax, "not in the plan")  # 4
                continue
            scores = score_product(softmax)
            context = softmax.outputs[0].outputs[0]
            if context.op != "MatMul":
                continue  # already quantized
            if scores is None:
                self.refuse(softmax, "no product of queries and keys in front of it")  # 5
                continue
            name = softmax.name.rsplit("/", 1)[0]
            probability, value = context.inputs
            if isinstance(plan, AttentionPlan):
                read_back = _in_groups(edit, (*scores.inputs, value), plan, name)
            elif (heads := _key_heads(scores.inputs[1])) is None:
                self.refuse(softmax, "its keys are not the transposed heads of tokens", scores.inputs[1].name)  # 5
                continue
            else:
                read_back = _in_blocks(edit, (scores.inputs[0], heads, value), plan, name)
            levels = edit.constant(f"{name}.levels", plan.levels) if plan.codebook else None  # 3
            table = plan.probability
            weights = add_group_quantizer(
                edit, probability, table.to_array(), table.bits, ROWS, f"{name}/probability", levels
            )
            query, key, value = read_back
            scores.inputs, context.inputs = [query, key], [weights, value]
            self.applied += 1
        return self.applied > 0


def _in_groups(edit: Editor, operands: _Operands, plan: AttentionPlan, name: str) -> _Operands:
    """Queries [.., N, D], keys [.., D, N] and values [.., N, D], read back in these shapes."""
    query, key, value = operands
    return (
        add_group_quantizer(edit, query, plan.query.to_array(), plan.query.bits, ROWS, f"{name}/query"),
        add_group_quantizer(edit, key, plan.key.to_array(), plan.key.bits, CHANNELS, f"{name}/key"),  # 1
        add_group_quantizer(edit, value, plan.value.to_array(), plan.value.bits, CHANNELS, f"{name}/value"),
    )


def _in_blocks(edit: Editor, operands: _Operands, plan: BlockAttentionPlan, name: str) -> _Operands:
    """Queries, heads of keys [.., N, H, D] and values, read back as for :func:`_in_groups`."""

    def add(tensor: gs.Tensor, quantizer: BlockQuantizer, role: str, shared: bool = False) -> gs.Variable:
        bits, block, clip, slack = quantizer.bits, quantizer.block, quantizer.clip, quantizer.slack
        return add_block_quantizer(edit, tensor, bits, block, clip, slack, f"{name}/{role}", shared=shared)

    query, heads, value = operands
    tokens = edit.transpose(heads, _TOKENS, f"{name}/key/heads")
    key = add(tokens, plan.query_key, "key")
    return (
        add(query, plan.query_key, "query"),
        edit.transpose(key, [0, 1, 3, 2], f"{name}/key/Transpose"),  # 2
        add(value, plan.value, "value", shared=True),
    )


def _key_heads(key: gs.Tensor) -> gs.Tensor | None:
    """What is transposed to the keys [B, H, D, N]."""
    node = producer(key)
    found = node is not None and node.op == "Transpose" and list(node.attrs.get("perm", [])) == _TRANSPOSED
    return node.inputs[0] if node is not None and found else None


def _check_blocks(softmax: gs.Node, plan: BlockAttentionPlan) -> None:
    scores = score_product(softmax)
    heads = None if scores is None else _key_heads(scores.inputs[1])
    reshape = None if heads is None else producer(heads)
    shape = None if reshape is None or reshape.op != "Reshape" else ints_of(reshape.inputs[1])
    for quantizer in (plan.query_key, plan.value):
        if quantizer.rotate != 1:
            raise VerificationError(f"the plan of '{plan.name}' rotates channels, which attention does not")
        if shape is not None and shape[-1] % quantizer.block:
            raise VerificationError(
                f"the plan of '{plan.name}' cuts the {shape[-1]} channels of a head into blocks of {quantizer.block}"
            )


def score_product(softmax: gs.Node) -> gs.Node | None:
    """The product of queries and keys behind a Softmax: up through mask, window reshapes and scale."""
    tensor = softmax.inputs[0]
    while tensor.inputs and tensor.inputs[0].op in ("Add", "Reshape", "Mul"):
        tensor = tensor.inputs[0].inputs[0]
    return tensor.inputs[0] if tensor.inputs and tensor.inputs[0].op == "MatMul" else None
