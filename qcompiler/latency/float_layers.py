"""Models of one float layer: what ONNX Runtime does for it today, with the nodes that a lowered operator takes in."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from qcompiler.ir.functions import OPSET
from qcompiler.ir.saving import IR_VERSION
from qcompiler.latency.shapes import AttentionShape, LinearShape, Shape
from qcompiler.quant.groups import F32

Feed = dict[str, F32]


def float_layer(shape: Shape) -> tuple[bytes, Feed]:
    """A serialized model of one float layer with random weights, and an input for it."""
    return _linear(shape) if isinstance(shape, LinearShape) else _attention(shape)


def one_layer_model(
    nodes: list[onnx.NodeProto],
    feed: Feed,
    constants: list[onnx.TensorProto],
    domains: tuple[str, ...] = (),
) -> bytes:
    """A serialized model from the inputs of ``feed`` to ``Y``."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape) for name, x in feed.items()]
    output = helper.make_empty_tensor_value_info("Y")
    output.type.tensor_type.elem_type = TensorProto.FLOAT
    graph = helper.make_graph(nodes, "one_layer", inputs, [output], constants)
    opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString())


def linear_feed(shape: LinearShape) -> Feed:
    """Normal input ``X [instances, tokens, channels]``, and ``residual`` where the layer adds one."""
    draw = np.random.default_rng(0)
    rows = (shape.instances, shape.tokens)
    feed = {"X": draw.standard_normal((*rows, shape.channels), np.float32)}
    if shape.residual:
        feed["residual"] = draw.standard_normal((*rows, shape.outputs), np.float32)
    return feed


def attention_feed(shape: AttentionShape) -> Feed:
    """Normal input ``QKV [instances, tokens, 3 * heads * head_dim]``."""
    width = 3 * shape.heads * shape.head_dim
    return {"QKV": np.random.default_rng(0).standard_normal((shape.instances, shape.tokens, width), np.float32)}


def score_bias(shape: AttentionShape) -> F32:
    """A bias of the scores ``[1, heads, tokens, tokens]``."""
    size = (1, shape.heads, shape.tokens, shape.tokens)
    return np.random.default_rng(1).standard_normal(size, np.float32)


def _linear(shape: LinearShape) -> tuple[bytes, Feed]:
    draw = np.random.default_rng(1)
    weight = draw.standard_normal((shape.channels, shape.outputs), np.float32) * np.float32(shape.channels**-0.5)
    constants = {"weight": weight, "bias": np.zeros(shape.outputs, np.float32)}
    nodes, x = [], "X"
    if shape.norm:
        constants |= {"gamma": np.ones(shape.channels, np.float32), "beta": np.zeros(shape.channels, np.float32)}
        nodes.append(helper.make_node("LayerNormalization", [x, "gamma", "beta"], ["normalized"], axis=-1))
        x = "normalized"
    last = shape.gelu is None and not shape.residual
    nodes.append(helper.make_node("MatMul", [x, "weight"], ["product"]))
    nodes.append(helper.make_node("Add", ["product", "bias"], ["Y" if last else "biased"]))
    if shape.gelu is not None:
        nodes.append(helper.make_node("Gelu", ["biased"], ["Y"], approximate=shape.gelu))
    elif shape.residual:
        nodes.append(helper.make_node("Add", ["biased", "residual"], ["Y"]))
    feed = linear_feed(shape)
    return one_layer_model(nodes, feed, [numpy_helper.from_array(x, name) for name, x in constants.items()]), feed


def _attention(shape: AttentionShape) -> tuple[bytes, Feed]:
    constants = {
        "split": np.array([0, 0, shape.heads, -1], np.int64),
        "joined": np.array([0, 0, -1], np.int64),
        "scale": np.float32(shape.head_dim**-0.5),
    }
    nodes = [helper.make_node("Split", ["QKV"], ["q3", "k3", "v3"], axis=-1, num_outputs=3)]
    for name, perm in (("q", (0, 2, 1, 3)), ("k", (0, 2, 3, 1)), ("v", (0, 2, 1, 3))):
        nodes.append(helper.make_node("Reshape", [f"{name}3", "split"], [f"{name}4"]))
        nodes.append(helper.make_node("Transpose", [f"{name}4"], [name], perm=perm))
    nodes += [helper.make_node("MatMul", ["q", "k"], ["dots"]), helper.make_node("Mul", ["dots", "scale"], ["scores"])]
    if shape.bias:
        constants["bias"] = score_bias(shape)
        nodes.append(helper.make_node("Add", ["scores", "bias"], ["biased"]))
    nodes += [
        helper.make_node("Softmax", ["biased" if shape.bias else "scores"], ["probabilities"], axis=-1),
        helper.make_node("MatMul", ["probabilities", "v"], ["mixed"]),
        helper.make_node("Transpose", ["mixed"], ["tokens"], perm=(0, 2, 1, 3)),
        helper.make_node("Reshape", ["tokens", "joined"], ["Y"]),
    ]
    feed = attention_feed(shape)
    tensors = [numpy_helper.from_array(np.asarray(x), name) for name, x in constants.items()]
    return one_layer_model(nodes, feed, tensors), feed
