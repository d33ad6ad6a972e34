"""Bodies of files with float16 activations: the float32 body, and one rounding of its result."""

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from qcompiler.ir.functions import OPERATORS, function, functions_for
from qcompiler.ir.generic_bodies import activation_inputs
from qcompiler.ir.verifier import FUSED_OPS

from ..runtime_ops.nodes import (
    F32,
    MODES,
    attention_node,
    block_attention_node,
    block_node,
    linear_node,
    probability_table,
    random_blocks,
    random_table,
    random_weight,
)
from .bodies import check_with_shapes, run

HALF = onnx.TensorProto.FLOAT16
CHANNELS, HEADS, TOKENS = 16, 2, (2, 5)


def linear(op, int4):
    """A linear operator of the family, the norm, the activation and the residual that its name tells."""
    rng = np.random.default_rng(1)
    rest = {
        "w_scale": rng.uniform(0.01, 0.05, CHANNELS).astype(F32),
        "bias": rng.normal(size=CHANNELS).astype(F32),
        "int4": int4,
        "residual": op.endswith("Add"),
    }
    if op.startswith("LayerNorm"):
        rest |= {"norm": (rng.uniform(0.5, 2, CHANNELS).astype(F32), rng.normal(size=CHANNELS).astype(F32))}
        rest |= {"epsilon": 1e-6}
    if op.endswith("Gelu"):
        rest |= {"gelu": True, "approximate": "none"}
    weight = random_weight(rng, CHANNELS, CHANNELS, int4)
    if "BlockLinear" in op:
        return block_node(weight, bits=4, block=8, rotate=4, w_blocks=random_blocks(rng, 2, CHANNELS), **rest)
    axis, segments = MODES["rows"]
    groups = random_table(rng, "rows", 4, 3)
    return linear_node(weight, groups, bits=4, axis=axis, segments=segments, normalize=1, **rest)


def attention(op):
    """An attention operator, with a bias that comes at run time where it has one."""
    rng = np.random.default_rng(2)
    levels = np.arange(0, 128, 8, dtype=np.uint8)
    rest = {"num_heads": HEADS, "scale": float(F32(8**-0.5)), "bias": op.endswith("Bias")}
    p_groups = probability_table(rng, len(levels), 2)
    if op.startswith("Block"):
        return block_attention_node(p_groups, levels, qk_bits=4, v_bits=5, block=4, **rest)
    tables = [random_table(rng, "bytes", 4, 3) for _ in range(3)]
    return attention_node([*tables, p_groups], levels, bits=4, **rest)


CASES = [*((op, int4) for op in sorted(FUSED_OPS) if "Linear" in op for int4 in (False, True))]
CASES += [(op, False) for op in sorted(FUSED_OPS) if "Attention" in op]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case[0] + (" int4" if case[1] else ""))
def case(request):
    """A node, and inputs that float16 holds."""
    op, int4 = request.param
    node = attention(op) if "Attention" in op else linear(op, int4)
    assert node.op == op
    shapes = dict.fromkeys(("X", "residual"), (*TOKENS, CHANNELS))
    shapes |= {"QKV": (*TOKENS, 3 * CHANNELS), "bias": (1, HEADS, TOKENS[1], TOKENS[1])}
    rng = np.random.default_rng(3)
    names = [name for name in node.inputs if name not in node.constants]
    return node, {name: rng.normal(size=shapes[name]).astype(np.float16) for name in names}


def generic_model(node, kind):
    """The node with the generic bodies, for activations of a type."""
    model = onnx.load_from_string(node.model(functions=functions_for([node.op], "float16")))
    for item in (*model.graph.input, *model.graph.output):
        item.type.tensor_type.elem_type = kind
    return model


def wide(feeds):
    return {name: value.astype(F32) for name, value in feeds.items()}


@pytest.mark.parametrize("optimize", [False, True])
def test_one_rounding(case, optimize):
    node, feeds = case
    (expected,) = run(node.model(functions=functions_for([node.op])), wide(feeds))
    (found,) = run(generic_model(node, HALF).SerializeToString(), feeds, optimize=optimize)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, expected.astype(np.float16))
    assert np.any(expected != expected.astype(np.float16)), "the rounding is seen"


def test_float32_takes_no_rounding(case):
    node, feeds = case
    (expected,) = run(node.model(functions=functions_for([node.op])), wide(feeds))
    (found,) = run(generic_model(node, onnx.TensorProto.FLOAT).SerializeToString(), wide(feeds))
    np.testing.assert_array_equal(found, expected)


def test_as_the_standard_reads_them(case):
    node, feeds = case
    if "Gelu" in node.op:
        pytest.skip("ONNX's reference does not infer the type that Gelu's definition needs behind a Cast")
    model = generic_model(node, HALF)
    found = run(model.SerializeToString(), feeds)
    check_with_shapes(model, found)
    (expected,) = ReferenceEvaluator(model).run(None, feeds)
    assert expected.dtype == np.float16
    # Both add float32 in an order of their own, and a last bit of it may become one of float16.
    np.testing.assert_allclose(found[0].astype(F32), expected.astype(F32), rtol=2e-3, atol=2e-3)


def test_inputs_of_the_type_of_activations():
    assert activation_inputs(["X", "gamma", "beta", "W", "bias", "residual"]) == (0, 5)
    assert activation_inputs(["QKV", "p_groups", "levels", "bias"]) == (0, 3)


def test_what_fused_operators_call_is_as_it_was():
    for op in OPERATORS:
        same = function(op, "float16") == function(op)
        assert same == (op not in FUSED_OPS)
    body = function("BlockLinear")
    before = body.SerializeToString(deterministic=True)
    function("BlockLinear", "float16")
    assert body.SerializeToString(deterministic=True) == before
