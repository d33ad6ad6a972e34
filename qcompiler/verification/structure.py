"""The graph of a written model: which operators it holds, how they are wired, and what they read."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_graphsurgeon as gs

from qcompiler.errors import VerificationError
from qcompiler.ir.functions import DOMAIN, OPERATORS, function
from qcompiler.ir.verifier import FUSED_OPS, READABLE_OPS, verify
from qcompiler.report.reading.finding import find_layers
from qcompiler.report.reading.wiring import Wiring
from qcompiler.verification.checks import Check, judged

_STAGE = "narrowed"  # what it allows includes all that other models hold


def check_structure(model: onnx.ModelProto) -> Check:
    """Operators, domains, wiring and element types, and the signatures of the operators of qcompile."""
    problems = [*_graph_problems(model), *_signature_problems(model)]
    layers = find_layers(Wiring(model.graph)) if not problems else ()
    if not problems and not layers:
        problems.append("the graph holds no quantized layer: it is no model that qcompile wrote")
    own = sum(node.domain == DOMAIN for node in model.graph.node)
    return judged(
        "structure",
        problems,
        f"{len(model.graph.node)} nodes, {own} of them operators of qcompile, {len(layers)} layers",
    )


def _graph_problems(model: onnx.ModelProto) -> Iterator[str]:
    try:
        verify(gs.import_onnx(model), _STAGE)
    except VerificationError as error:
        yield str(error).removeprefix(f"after stage '{_STAGE}': ")


def _signature_problems(model: onnx.ModelProto) -> Iterator[str]:
    for node in model.graph.node:
        if node.domain != DOMAIN or node.op_type not in READABLE_OPS | FUSED_OPS or node.op_type not in OPERATORS:
            continue  # the verifier names it
        where = f"node '{node.name}' ({node.op_type})"
        definition = function(node.op_type)
        found, wanted = {item.name for item in node.attribute}, set(definition.attribute)
        if found != wanted:
            yield f"{where} has the attributes {_listed(found)} instead of {_listed(wanted)}"
        if len(node.input) != len(definition.input) or not all(node.input):
            yield f"{where} reads {sum(map(bool, node.input))} tensors instead of {len(definition.input)}"
        if len(node.output) > len(definition.output):
            yield f"{where} has {len(node.output)} results instead of {len(definition.output)}"


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
