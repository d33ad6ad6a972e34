"""The function bodies that a file carries: all that it needs, and the ones that define its operators."""

from __future__ import annotations

import onnx

from qcompiler.ir.functions import DOMAIN, FLOAT32, OPERATORS, VERSION, function
from qcompiler.report.reading.activations import activation_type
from qcompiler.verification.checks import Check, judged


def check_bodies(model: onnx.ModelProto) -> Check:
    """Every operator of qcompile in the graph has a body, and so has what bodies call; their texts are the known ones.

    The version of the domain and the type of the activations pin the definition, so that another text is an edit.
    """
    activations = _activations(model)
    bodies = {item.name: item for item in model.functions if item.domain == DOMAIN}
    callers = {node.op_type: f"node '{node.name}'" for node in model.graph.node if node.domain == DOMAIN}
    problems = []
    waiting = list(callers)
    while waiting:
        name = waiting.pop()
        body = bodies.get(name)
        if body is None:
            problems.append(f"no function body for '{name}', which {callers[name]} calls")
            continue
        if name not in OPERATORS:
            problems.append(f"'{name}', which {callers[name]} calls, is no operator of version {VERSION}")
        elif not _alike(body, function(name, activations)):
            problems.append(f"the function body of '{name}' is not that of version {VERSION} of the operators")
        for node in body.node:
            if node.domain == DOMAIN and node.op_type not in callers:
                callers[node.op_type] = f"the body of '{name}'"
                waiting.append(node.op_type)
    problems += [f"the function body of '{name}' is never called" for name in bodies if name not in callers]
    others = [item for item in model.functions if item.domain != DOMAIN]
    problems += [f"function '{item.name}' of domain '{item.domain}' does not belong here" for item in others]
    return judged(
        "bodies",
        sorted(problems),
        f"{len(bodies)} function bodies, as version {VERSION} defines them for {activations}",
    )


def _activations(model: onnx.ModelProto) -> str:
    """The type of the activations, also of a damaged graph: what is wrong there the other checks say."""
    try:
        return activation_type(model) or FLOAT32
    except Exception:  # of ONNX's shape inference, or of a missing attribute
        return FLOAT32


def _alike(found: onnx.FunctionProto, wanted: onnx.FunctionProto) -> bool:
    if found.SerializeToString(deterministic=True) == wanted.SerializeToString(deterministic=True):
        return True
    return onnx.printer.to_text(found) == onnx.printer.to_text(wanted)  # another release of onnx wrote the file
