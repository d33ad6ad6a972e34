"""Small float models in canonical spelling."""

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort

F = np.float32


def model(batch="n"):
    """Two linear layers around an attention-like product and a residual; 5 tokens of 6 channels, 4 classes."""
    draw = np.random.default_rng(0)
    made = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 21]>
        g (float[{batch}, 5, 6] x) => (float[{batch}, 4] logits) {{
        a = MatMul (x, w1)  b = Add (a, b1)  c = Gelu (b)
        t = Transpose <perm = [0, 2, 1]> (x)  s = MatMul (x, t)  p = Softmax <axis = -1> (s)  m = MatMul (p, c)
        r = Add (m, c)  d = MatMul (r, w2)  e = ReduceMean <keepdims = 0> (d, axis)  logits = Identity (e)
        }}"""
    )
    weights = {
        "w1": draw.standard_normal((6, 8)).astype(F),
        "b1": draw.standard_normal(8).astype(F),
        "w2": draw.standard_normal((8, 4)).astype(F),
        "axis": np.array([1]),
    }
    made.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in weights.items())
    for node in made.graph.node:
        node.name = f"make_{node.output[0]}"
    return made


# Operands by what they are: (node, index, tensor).
OPERANDS = {
    "first linear": ("make_a", 0, "x"),
    "second linear": ("make_d", 0, "r"),
    "left of a product": ("make_m", 0, "p"),
    "right of a product": ("make_m", 1, "c"),
    "one of two readings": ("make_s", 0, "x"),
    "transposed": ("make_s", 1, "t"),
    "last": ("make_logits", 0, "e"),
}


def images(count, batch=1, seed=1):
    draw = np.random.default_rng(seed)
    return [{"x": draw.standard_normal((batch, 5, 6)).astype(F)} for _ in range(count)]


def run(made, feed, names=None):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(names, feed)


def edited(made, operand, function):
    """The whole model with standard operators put before one input of one node: the slow way to replace an operand.

    Args:
        made: The model.
        operand: (node, index, tensor).
        function: ONNX operator and constant, e.g. ("Mul", 0.0).
    """
    node_name, index, tensor = operand
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    op, constant = function
    copy.graph.initializer.append(onnx.numpy_helper.from_array(np.array(constant, F), "constant"))
    place = next(i for i, node in enumerate(copy.graph.node) if node.name == node_name)
    copy.graph.node[place].input[index] = "edited"
    copy.graph.node.insert(place, onnx.helper.make_node(op, [tensor, "constant"], ["edited"]))
    onnx.checker.check_model(copy, full_check=True)
    return copy


def with_weight(made, name, value):
    """The whole model with another constant: the slow way to replace a weight."""
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    (tensor,) = [item for item in copy.graph.initializer if item.name == name]
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
    return copy


def constant(made, name):
    """The value of an initialiser."""
    return next(onnx.numpy_helper.to_array(item) for item in made.graph.initializer if item.name == name)
