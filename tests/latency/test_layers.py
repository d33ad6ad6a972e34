"""Models of one layer: they run, and both forms of a layer have the same inputs and output."""

import math

import numpy as np
import onnx
import pytest

from qcompiler import runtime_ops
from qcompiler.latency.float_layers import float_layer
from qcompiler.latency.kinds import AttentionKind, LinearKind
from qcompiler.latency.lowered_layers import lowered_layer
from qcompiler.latency.shapes import AttentionShape, LinearShape

PLAIN = LinearShape(2, 5, 48, 40)
SHAPES = [PLAIN, LinearShape(1, 5, 48, 130, norm=True, gelu="none"), LinearShape(1, 1, 64, 24, gelu="tanh"),
          LinearShape(1, 5, 48, 40, norm=True), LinearShape(3, 5, 36, 40, residual=True)]  # fmt: skip
INPUTS = [("blocks", 4, 1, True, True, False), ("blocks", 7, 1, False, False, False), ("channels", 4, 8, False, False,
          True), ("channels", 7, 1, False, False, False), ("rows", 8, 16, False, False, True), ("segments", 4, 8, False,
          False, True)]  # fmt: skip
HEADS = [AttentionShape(2, 6, 3, 8), AttentionShape(4, 7, 2, 16, bias=True)]


def run(built):
    model, feed = built
    found = runtime_ops.session(model, threads=1, library=True).run(None, feed)[0]
    assert np.isfinite(found).all()
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scheme", INPUTS, ids=lambda item: f"{item[0]}{item[1]}")
def test_linear(library, shape, scheme):
    wanted = run(float_layer(shape)).shape
    assert wanted == (shape.instances, shape.tokens, shape.outputs)
    for bits, blocks in ((4, False), (3, True), (8, False)):
        model, feed = lowered_layer(LinearKind(shape, *scheme, bits, blocks))
        assert run((model, feed)).shape == wanted
        (node,) = onnx.load_from_string(model).graph.node
        assert node.op_type.startswith("LayerNorm") == shape.norm
        assert node.op_type.endswith("Gelu") == (shape.gelu is not None)
        assert node.op_type.endswith("Add") == shape.residual
        weight = next(item for item in onnx.load_from_string(model).graph.initializer if item.name == "W")
        assert (weight.data_type == onnx.TensorProto.INT4) == (bits <= 4)


@pytest.mark.parametrize("shape", HEADS, ids=str)
@pytest.mark.parametrize(
    ("in_blocks", "bits", "values", "codebook"),
    [(True, 4, 5, True), (True, 7, 7, False), (False, 4, 4, True), (False, 8, 8, False)],
)
def test_attention(library, shape, in_blocks, bits, values, codebook):
    wanted = run(float_layer(shape)).shape
    assert wanted == (shape.instances, shape.tokens, shape.heads * shape.head_dim)
    assert run(lowered_layer(AttentionKind(shape, in_blocks, bits, values, 4, codebook))).shape == wanted


def test_the_float_layers_compute_what_they_stand_for():
    """Against NumPy, in double precision."""
    for shape in SHAPES:
        model, feed = float_layer(shape)
        found = runtime_ops.session(model, threads=1).run(None, feed)[0]
        constants = {item.name: onnx.numpy_helper.to_array(item).astype(np.float64)
                     for item in onnx.load_from_string(model).graph.initializer}  # fmt: skip
        x = feed["X"].astype(np.float64)
        if shape.norm:
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        y = x @ constants["weight"]
        if shape.gelu == "tanh":
            y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
        elif shape.gelu:
            y = y * 0.5 * (1 + np.vectorize(math.erf)(y / np.sqrt(2)))
        y = y + feed["residual"] if shape.residual else y
        np.testing.assert_allclose(found, y, atol=2e-4)


def test_the_float_attention_computes_what_it_stands_for():
    for shape in HEADS:
        model, feed = float_layer(shape)
        found = runtime_ops.session(model, threads=1).run(None, feed)[0]
        qkv = feed["QKV"].astype(np.float64).reshape(shape.instances, shape.tokens, 3, shape.heads, shape.head_dim)
        q, k, v = np.moveaxis(qkv, (2, 3), (0, 2))
        scores = q @ k.swapaxes(-1, -2) / np.sqrt(shape.head_dim)
        if shape.bias:
            (bias,) = (item for item in onnx.load_from_string(model).graph.initializer if item.name == "bias")
            scores = scores + onnx.numpy_helper.to_array(bias)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (p / p.sum(-1, keepdims=True)) @ v
        wanted = np.moveaxis(mixed, 1, 2).reshape(found.shape)
        np.testing.assert_allclose(found, wanted, atol=1e-4)
