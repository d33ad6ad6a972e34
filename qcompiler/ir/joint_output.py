"""One output that stands for all outputs of a model, for what compares predictions."""

from __future__ import annotations

import onnx

from qcompiler.ir.importing import to_graph
from qcompiler.ir.shapes import infer

JOINT = "joint_prediction"


def with_joint_output(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model whose first output speaks for all.

    The new output `[images, values]` joins the log-probabilities of the outputs, each flattened to one row per image.
    Its softmax gives every output an equal part of the probability, so a KL divergence of it is the mean of theirs.

    Args:
        model: a canonical model; it is not changed.

    Returns:
        The same model where it has one output that counts, else a copy. Outputs that are not float or do not have one
        row per image do not count.
    """
    graph = to_graph(model)
    info = infer(graph)
    images = info.shapes[graph.inputs[0].name][:1]
    names = [
        output.name
        for output in model.graph.output
        if output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        and info.shapes.get(output.name, ())[:1] == images
    ]
    if len(model.graph.output) == 1 or not names:
        return model
    joint = onnx.ModelProto()
    joint.CopyFrom(model)
    make = onnx.helper.make_node
    parts = []
    for index, name in enumerate(names):
        flat, part = f"{JOINT}/flat_{index}", f"{JOINT}/part_{index}"
        joint.graph.node.append(make("Flatten", [name], [flat], name=flat, axis=1))
        joint.graph.node.append(make("LogSoftmax", [flat], [part], name=part, axis=-1))
        parts.append(part)
    joint.graph.node.append(make("Concat", parts, [JOINT], name=JOINT, axis=1))
    outputs = list(joint.graph.output)
    del joint.graph.output[:]
    first = onnx.helper.make_tensor_value_info(JOINT, onnx.TensorProto.FLOAT, None)
    joint.graph.output.extend([first, *outputs])
    return joint
