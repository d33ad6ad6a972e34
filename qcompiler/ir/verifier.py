"""What may exist in a graph after each stage, as tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from qcompiler.errors import VerificationError

OPSET = 21

READABLE_OPS = frozenset(
    {
        "RowNorm",
        "GroupSort",
        "GroupQuantizeLinear",
        "GroupDequantizeLinear",
        "BlockQuantizeLinear",
        "BlockDequantizeLinear",
    }
)
FUSED_OPS = frozenset(
    {
        "GroupLinear",
        "GroupLinearGelu",
        "GroupLinearAdd",
        "LayerNormGroupLinear",
        "LayerNormGroupLinearGelu",
        "BlockLinear",
        "BlockLinearGelu",
        "BlockLinearAdd",
        "LayerNormBlockLinear",
        "LayerNormBlockLinearGelu",
        "GroupAttention",
        "GroupAttentionBias",
        "BlockAttention",
        "BlockAttentionBias",
    }
)


@dataclass(frozen=True)
class Stage:
    """The rules of one stage.

    Attributes:
        forbidden: standard operators that must be gone, each with the reason.
        constant_inputs: inputs (by position) that must be initialisers, per standard operator.
        custom: operators of the domain `qcompiler` that may exist.
        weights: element types that initialisers may have.
    """

    forbidden: dict[str, str]
    constant_inputs: dict[str, tuple[int, ...]]
    custom: frozenset[str] = frozenset()
    weights: frozenset[str] = field(default_factory=frozenset)


_CHATTER = {
    "Constant": "constants are initialisers",
    "Identity": "no-ops are removed",
    "Dropout": "no-ops are removed",
    "Gemm": "a linear layer is MatMul and Add",
    "Attention": "attention is spelled out",
}
_SHAPE_INPUTS = {
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    "Pad": (1, 2, 3),
}
_FLOAT_GRAPH = frozenset({"float32", "int64", "int32", "bool"})

STAGES: dict[str, Stage] = {
    "canonical": Stage(
        {**_CHATTER, "QuantizeLinear": "the graph is float", "DequantizeLinear": "the graph is float"},
        _SHAPE_INPUTS,
        weights=_FLOAT_GRAPH,
    ),
    "quantized": Stage(_CHATTER, _SHAPE_INPUTS, READABLE_OPS, _FLOAT_GRAPH | {"uint8", "int8", "uint4", "int4"}),
    "lowered": Stage(
        _CHATTER, _SHAPE_INPUTS, READABLE_OPS | FUSED_OPS, _FLOAT_GRAPH | {"uint8", "int8", "uint4", "int4"}
    ),
    "narrowed": Stage(
        _CHATTER,
        _SHAPE_INPUTS,
        READABLE_OPS | FUSED_OPS,
        _FLOAT_GRAPH | {"float16", "uint8", "int8", "uint4", "int4"},
    ),
}


def verify(graph: gs.Graph, stage: str) -> None:
    """Checks a graph against the rules of a stage and its wiring.

    Args:
        graph: the graph.
        stage: `canonical`, `quantized`, `lowered` or `narrowed`.

    Raises:
        VerificationError: the first rule that is broken, with the node at fault.
    """
    rules = STAGES[stage]
    problems = [*_operator_problems(graph, rules), *_weight_problems(graph, rules)]
    if graph.opset != OPSET:
        problems.append(f"the opset is {graph.opset} instead of {OPSET}")
    if problems:
        raise VerificationError(f"after stage '{stage}': {problems[0]}" + _more(problems))
    verify_structure(graph)


def verify_structure(graph: gs.Graph) -> None:
    """Checks the wiring: unique names, every tensor computed once and before it is read.

    Raises:
        VerificationError: the first defect.
    """
    known = {tensor.name for tensor in graph.inputs}
    names: set[str] = set()
    for node in graph.nodes:
        if not node.name or node.name in names:
            raise VerificationError(f"the node name '{node.name}' ({node.op}) is empty or used twice")
        names.add(node.name)
        for tensor in node.inputs:
            if isinstance(tensor, gs.Variable) and not tensor.is_empty() and tensor.name not in known:
                raise VerificationError(f"node '{node.name}' ({node.op}) reads '{tensor.name}' before it is computed")
        for tensor in node.outputs:
            if tensor.name in known:
                raise VerificationError(f"the tensor '{tensor.name}' is computed twice (node '{node.name}')")
            if tensor.name:
                known.add(tensor.name)
    for tensor in graph.outputs:
        if tensor.name not in known:
            raise VerificationError(f"the output '{tensor.name}' is not computed")


def _operator_problems(graph: gs.Graph, rules: Stage) -> Iterable[str]:
    for node in graph.nodes:
        where = f"node '{node.name}' ({node.op})"
        if node.domain == "qcompiler":
            if node.op not in rules.custom:
                yield f"{where} of domain 'qcompiler' does not belong here"
        elif node.domain not in (None, "", "ai.onnx"):
            yield f"{where} has the unknown domain '{node.domain}'"
        elif node.op in rules.forbidden:
            yield f"{where} is left: {rules.forbidden[node.op]}"
        elif not onnx.defs.has(node.op, OPSET, ""):
            yield f"{where} is not an operator of opset {OPSET}"
        else:
            for index in rules.constant_inputs.get(node.op, ()):
                present = index < len(node.inputs) and not node.inputs[index].is_empty()
                if present and not isinstance(node.inputs[index], gs.Constant):
                    yield f"input {index} of {where} is not constant"


def _weight_problems(graph: gs.Graph, rules: Stage) -> Iterable[str]:
    for node in graph.nodes:
        for tensor in node.inputs:
            if isinstance(tensor, gs.Constant):
                name = _type_name(tensor)
                if name not in rules.weights:
                    yield f"initialiser '{tensor.name}' of node '{node.name}' has type {name}"


def _type_name(tensor: gs.Constant) -> str:
    """The element type of an initialiser, without reading values that are still in the file."""
    kind = tensor.export_dtype if tensor.export_dtype is not None else tensor.dtype
    if isinstance(kind, int):
        name = str(onnx.TensorProto.DataType.Name(kind)).lower()
        return "float32" if name == "float" else name
    return np.dtype(kind).name


def _more(problems: list[str]) -> str:
    return f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
