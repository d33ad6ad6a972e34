"""Function bodies of fused operators whose activations may be float16.

The float32 body between casts: the activations are widened exactly, and the result is rounded once to their type. That
is what the kernels compute. Files of float32 activations carry the bodies without casts.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper

_RESULT = "Y"


def activation_inputs(names: Sequence[str]) -> tuple[int, ...]:
    """Positions of the activations among the inputs of a fused operator; all others are constants of fixed types.

    Args:
        names: Names of its inputs, as its function body has them.
    """
    activations = {"QKV", "bias"} if "QKV" in names else {"X", "residual"}
    return tuple(index for index, name in enumerate(names) if name in activations)


def generic_body(body: onnx.FunctionProto) -> onnx.FunctionProto:
    """The body of a fused operator for activations of float32 or float16.

    Args:
        body: Its body for float32; it is not changed.
    """
    wide = {body.input[index]: f"{body.input[index]}_float32" for index in activation_inputs(body.input)}
    inner = {**wide, _RESULT: f"{_RESULT}_float32"}
    made = onnx.FunctionProto()
    made.CopyFrom(body)
    for node in made.node:
        for names in (node.input, node.output):
            names[:] = [inner.get(name, name) for name in names]
    nodes = [helper.make_node("Cast", [name], [cast], to=onnx.TensorProto.FLOAT) for name, cast in wide.items()]
    nodes += [*made.node, helper.make_node("CastLike", [inner[_RESULT], next(iter(wide))], [_RESULT])]
    del made.node[:]
    made.node.extend(nodes)
    return made
