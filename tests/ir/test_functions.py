"""Every function body in plain ONNX Runtime, without the operator library, against the definition in NumPy."""

import numpy as np
import pytest

from qcompiler.ir.functions import DOMAIN, OPERATORS, function, functions_for

from ..runtime_ops import normalized, reference
from ..runtime_ops.nodes import (
    F32,
    MODES,
    attention_node,
    block_attention_node,
    block_node,
    linear_node,
    one_group,
    one_segment,
    probability_table,
    random_table,
    random_weight,
    table,
)
from .bodies import BYTE, FLOAT, INDEX, check_with_shapes, evaluate, inner, model_of, run, run_node

LINEARS = {
    "GroupLinear": {},
    "GroupLinearGelu": {"gelu": True},
    "GroupLinearAdd": {"residual": True},
    "LayerNormGroupLinear": {"norm": True},
    "LayerNormGroupLinearGelu": {"norm": True, "gelu": True},
}
SHAPES = {2: (9, 24), 3: (2, 7, 24), 4: (2, 3, 5, 24)}
CODEBOOK = np.unique(np.rint(127 * np.linspace(0, 1, 16) ** 2)).astype(np.uint8)


def problem(seed, mode, channels, outputs, *, bits=4, groups=3, int4=False, normalize=1):
    """Random constants and attributes of a linear layer."""
    rng = np.random.default_rng(seed)
    axis, segments = MODES[mode]
    return {
        "weight": random_weight(rng, channels, outputs, int4),
        "w_scale": rng.uniform(0.001, 0.02, outputs).astype(F32),
        "groups": random_table(rng, mode, bits, groups),
        "bias": rng.normal(size=outputs).astype(F32),
        "bits": bits,
        "axis": axis,
        "segments": segments,
        "normalize": normalize,
    }


# -- The operators that others are made of


@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=["rank2", "rank3", "rank4"])
def test_sort(axis, shape):
    """Nearest group of every item, per instance, in the axis of the item with size 1 for the other."""
    rng = np.random.default_rng(1)
    x = (rng.normal(size=shape) * rng.uniform(0.2, 2, shape[-1])).astype(F32)
    groups = random_table(rng, "rows", 4, 5)
    (index,) = inner("GroupSort", {"index": INDEX}, {"axis": axis}, X=x, groups=groups)
    reduced = -2 if axis == -1 else -1
    low, high = x.min(axis=reduced, keepdims=True), x.max(axis=reduced, keepdims=True)
    np.testing.assert_array_equal(index, reference.assign(low, high, groups))
    assert len(np.unique(index)) > 1, "several groups are in use"


@pytest.mark.parametrize(
    ("low", "high", "group"),
    [
        (-2, 2, 0),  # as near to (-1, 1) as to (-3, 3): the lowest index
        (-2.001, 2, 1),
        (-1, 1, 0),  # groups 0 and 2 are equal
        (-50, 50, 3),
    ],
)
def test_sort_takes_the_lowest_group_on_ties(low, high, group):
    groups = table([(-1, 1, 1, 8, 1, 1), (-3, 3, 2, 8, 2, 1), (-1, 1, 1, 8, 1, 1), (-40, 40, 9, 8, 9, 1)])
    x = np.array([[[low, 0], [high, 0]]], F32)
    (index,) = inner("GroupSort", {"index": INDEX}, {"axis": -1}, X=x, groups=groups)
    assert index[0, 0, 0] == group


def test_quantize():
    """Half to even before the zero point is added; clipped at both ends of the width; times the rounded inverse."""
    groups = table([(-1, 1, 1, 3, 1, 1), (-1, 1, 0.3, 8, 1, 0.3)])
    steps = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -3, -3.6, 11.9, 12.6, 1e30, -1e30], F32)
    x = np.stack([steps, steps * F32(0.3)])[None]
    index = np.array([[[0], [1]]], np.int64)
    (codes,) = inner("GroupQuantizeLinear", {"codes": BYTE}, {"bits": 4}, X=x, index=index, groups=groups)
    np.testing.assert_array_equal(codes[0, 0], [3, 5, 5, 3, 1, 0, 0, 15, 15, 15, 0])
    scaled = np.rint(x[0, 1] * (F32(1) / F32(0.3)))
    np.testing.assert_array_equal(codes[0, 1], np.clip(scaled + 8, 0, 15))


@pytest.mark.parametrize("bits", range(1, 9))
def test_quantize_widths(bits):
    groups = table([(-1, 1, 1, 0, 1, 1)])
    x, index = np.array([[[-1, 0, 1, 1000]]], F32), np.zeros((1, 1, 1), np.int64)
    (codes,) = inner("GroupQuantizeLinear", {"codes": BYTE}, {"bits": bits}, X=x, index=index, groups=groups)
    np.testing.assert_array_equal(codes[0, 0], [0, 0, 1, 2**bits - 1])


@pytest.mark.parametrize("mode", MODES)
def test_operand_and_dequantize(mode):
    """multiplier * (code - zero_point), and the same times outer."""
    rng = np.random.default_rng(2)
    groups = random_table(rng, mode, 4, 4)
    codes = rng.integers(0, 16, (2, 5, 6)).astype(np.uint8)
    shape = (2, 5, 1) if mode == "rows" else (2, 1, 6)
    index = rng.integers(0, 4, shape)
    chosen = groups[index]
    expected = (codes.astype(F32) - chosen[..., reference.ZERO_POINT]) * chosen[..., reference.MULTIPLIER]
    feeds = {"codes": codes, "index": index, "groups": groups}
    operand, outer = inner("GroupOperand", {"operand": FLOAT, "outer": FLOAT}, {}, **feeds)
    np.testing.assert_array_equal(operand, expected)
    np.testing.assert_array_equal(outer, chosen[..., reference.OUTER])
    (y,) = inner("GroupDequantizeLinear", {"Y": FLOAT}, {}, **feeds)
    np.testing.assert_array_equal(y, expected * chosen[..., reference.OUTER])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=["rank2", "rank3", "rank4"])
def test_row_norm(shape):
    """1 for a row of zeros; with normalize=0 nothing happens."""
    x = normalized.exact_rows(np.random.default_rng(3), shape, zero_rows=2)
    outputs = {"normalized": FLOAT, "norm": FLOAT}
    divided, norm = inner("RowNorm", outputs, {"normalize": 1}, X=x)
    for ours, expected in zip((divided, norm), normalized.divide_rows(x), strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert norm.shape == (*shape[:-1], 1) and norm.min() == 1 and norm.max() > 1
    untouched, ones = inner("RowNorm", outputs, {"normalize": 0}, X=x)
    np.testing.assert_array_equal(untouched, x)
    np.testing.assert_array_equal(ones, np.ones_like(norm))


@pytest.mark.parametrize("levels", [np.arange(16, dtype=np.uint8), CODEBOOK], ids=["uniform", "codebook"])
def test_probability_operand(levels):
    rng = np.random.default_rng(4)
    p = rng.dirichlet(np.full(9, 0.3), (2, 3, 9)).astype(F32)
    groups = probability_table(rng, len(levels), 3)
    outputs = {"operand": FLOAT, "outer": FLOAT}
    operand, outer = inner("GroupProbabilityOperand", outputs, {}, P=p, groups=groups, levels=levels)
    group = reference.assign(p.min(axis=-1, keepdims=True), p.max(axis=-1, keepdims=True), groups)
    index = np.rint(p * (F32(1) / groups[group, reference.SCALE]))
    np.testing.assert_array_equal(operand, levels[np.clip(index, 0, len(levels) - 1).astype(int)])
    np.testing.assert_array_equal(outer, groups[group, reference.OUTER])


@pytest.mark.parametrize("axis", [-1, -2])
def test_attention_operand_saturates(axis):
    """Code 0 at 8 bits is -128, which a symmetric signed byte does not hold."""
    x = np.array([[[[-500, -127.4, 0], [500, 126, 1]]]], F32)
    operand, outer = inner(
        "GroupAttentionOperand",
        {"operand": FLOAT, "outer": FLOAT},
        {"bits": 8, "axis": axis},
        X=x,
        groups=one_group(),
    )
    np.testing.assert_array_equal(operand[0, 0], [[-127, -127, 0], [127, 126, 1]])
    assert outer.shape == ((1, 1, 1, 3) if axis == -1 else (1, 1, 2, 1))


# -- Linear layers


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("int4", [False, True], ids=["int8", "int4"])
@pytest.mark.parametrize(("mode", "segments"), [("rows", 0), ("multiples", 0), ("segments", 1)])
def test_linear_is_the_integer_product(mode, segments, int4, optimize):
    """w_scale = 1, bias = 0, outer = 1 and steps of 1: the output is the accumulator."""
    rng = np.random.default_rng(5)
    x = rng.integers(-7, 8, (2, 6, 20)).astype(F32)
    w = random_weight(rng, 20, 9, int4)
    node = linear_node(w, one_segment() if segments else one_group(), axis=MODES[mode][0], segments=segments, int4=int4)
    node.attributes["normalize"] = 0
    np.testing.assert_array_equal(run_node(node, {"X": x}, optimize=optimize), x @ w.astype(F32))


@pytest.mark.parametrize("int4", [False, True], ids=["int8", "int4"])
@pytest.mark.parametrize("normalize", [0, 1])
@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("mode", MODES)
def test_linear(mode, rank, normalize, int4):
    """Bit by bit, in ONNX Runtime and in ONNX's reference, where integers are added; free scales within 1e-5."""
    rest = problem(rank, mode, 24, 11, int4=int4, normalize=normalize)
    x = normalized.exact_rows(np.random.default_rng(6), SHAPES[rank], zero_rows=1)
    if not normalize:
        x = x * F32(0.03)
    node = linear_node(**rest, int4=int4, rank=rank)
    expected = normalized.linear(x, **rest)[0]
    for y in (run_node(node, {"X": x}), evaluate(node, {"X": x})):
        if mode == "segments":  # the body adds rounded products of every channel, the definition one sum per group
            np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
        else:
            np.testing.assert_array_equal(y, expected)


# No operand of 8-bit integer multiples may reach 128, so such tables do not exist.
@pytest.mark.parametrize(
    ("mode", "bits"), [(mode, bits) for mode in ("rows", "multiples") for bits in (2, 3, 6, 7)] + [("rows", 8)]
)
def test_linear_widths(mode, bits):
    rest = problem(bits, mode, 24, 11, bits=bits, groups=5)
    x = normalized.exact_rows(np.random.default_rng(7), (3, 10, 24))
    np.testing.assert_array_equal(run_node(linear_node(**rest), {"X": x}), normalized.linear(x, **rest)[0])


@pytest.mark.parametrize("mode", MODES)
def test_layer_norm_exactly(mode):
    """Rows of +a and -a: mean 0 and deviation a in any order of summation; the row norm is that of gamma alone."""
    rng = np.random.default_rng(8)
    signs = np.stack([rng.permutation(np.repeat([1, -1], 8)) for _ in range(10)]).astype(F32)[None]
    x = signs * np.exp2(rng.integers(-2, 4, (1, 10, 1))).astype(F32)
    rest = problem(8, mode, 16, 11)
    node = linear_node(**rest, norm=(np.full(16, 3, F32), np.zeros(16, F32)), epsilon=0.0)
    expected = normalized.linear(signs * 3, **rest)[0]
    y = run_node(node, {"X": x})
    if mode == "segments":
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    else:
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("op", "approximate"), [*((op, "none") for op in LINEARS), *((op, "tanh") for op in LINEARS if "Gelu" in op)]
)
@pytest.mark.parametrize("normalize", [0, 1])
@pytest.mark.parametrize("mode", MODES)
def test_linear_family(op, mode, normalize, approximate):
    """What is fused in front and behind, with int4 weights, in ONNX Runtime and in ONNX's reference."""
    parts = dict(LINEARS[op])
    rng = np.random.default_rng(9)
    rest = problem(9, mode, 24, 13, int4=True, normalize=normalize, groups=1)
    x = (rng.normal(size=(2, 8, 24)) * (3 if normalize else 1)).astype(F32)
    norm = (rng.uniform(0.5, 2, 24).astype(F32), rng.normal(size=24).astype(F32)) if parts.pop("norm", False) else None
    attributes = {"epsilon": 1e-6} if norm else {}
    attributes |= {"approximate": approximate} if "gelu" in parts else {}
    node = linear_node(**rest, **parts, norm=norm, int4=True, **attributes)
    assert node.op == op
    prepared = reference.layer_norm(x, *norm, 1e-6) if norm else x
    expected, slack = normalized.linear(prepared, **rest)
    feeds = {"X": x}
    if "gelu" in parts:
        expected, slack = reference.gelu(expected, approximate), 1.13 * slack  # the steepest slope of GELU
    if "residual" in parts:
        feeds["residual"] = rng.normal(size=expected.shape).astype(F32)
        expected = expected + feeds["residual"]
    assert np.mean(slack == 0) > 0.1, "the case must hold outputs that are fixed"
    results = [run_node(node, feeds)]
    if "gelu" not in parts:  # ONNX's reference does not implement Gelu
        results.append(evaluate(node, feeds))
    for y in results:
        assert np.all(np.abs(y - expected) <= slack + 1e-5 + 1e-5 * np.abs(expected))


# -- Attention


def attention_case(bits, codebook, bias_shape=None, batch=4, tokens=9, heads=2, head_dim=6):
    rng = np.random.default_rng(bits)
    levels = CODEBOOK if codebook else np.arange(2**bits, dtype=np.uint8)
    tables = [*(random_table(rng, "bytes", bits, 3) for _ in range(3)), probability_table(rng, len(levels), 3)]
    qkv = (rng.normal(size=(batch, tokens, 3 * heads * head_dim)) * 1.5).astype(F32)
    bias = None
    if bias_shape is not None:
        hidden = rng.random((*bias_shape, tokens, tokens)) < 0.3
        bias = (rng.normal(size=(*bias_shape, tokens, tokens)) - 100 * hidden).astype(F32)
    attributes = {"num_heads": heads, "scale": float(F32(head_dim**-0.5)), "bits": bits}
    node = attention_node(tables, levels, bias=False if bias is None else bias, **attributes)
    return node, qkv, reference.attention(qkv, *tables, levels, bias, **attributes)


@pytest.mark.parametrize("codebook", [False, True], ids=["uniform", "codebook"])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    "bias_shape", [None, (1, 2), (1, 1), (2, 2), (4, 1)], ids=["none", "heads", "shared", "2 windows", "4 windows"]
)
def test_attention(bias_shape, bits, codebook):
    """Row b of the batch takes bias b % windows; a probability next to a rounding boundary may fall to either side."""
    node, qkv, (expected, slack) = attention_case(bits, codebook, bias_shape)
    assert node.op == ("GroupAttention" if bias_shape is None else "GroupAttentionBias")
    assert np.mean(slack == 0) > 0.1, "the case must hold outputs that are fixed"
    for y in (run_node(node, {"QKV": qkv}), evaluate(node, {"QKV": qkv})):
        assert y.shape == expected.shape
        assert np.all(np.abs(y - expected) <= 1.001 * slack + 1e-6 + 1e-5 * np.abs(expected))


def test_attention_adds_up_integers():
    """q = 0 makes every probability 1/16, code 16 of 256: each output is 16 times the sum of v, an exact integer."""
    rng = np.random.default_rng(0)
    qkv = np.zeros((3, 16, 3, 2, 5), F32)
    qkv[:, :, 1] = rng.integers(-9, 10, qkv[:, :, 1].shape)
    qkv[:, :, 2] = rng.integers(-127, 128, qkv[:, :, 2].shape)
    tables = [one_group()] * 3 + [table([(0, 1, 1 / 256, 0, 1, 1)])]
    node = attention_node(tables, np.arange(256, dtype=np.uint8), num_heads=2, scale=1.0, bits=8)
    y = run_node(node, {"QKV": qkv.reshape(3, 16, 30)})
    sums = np.repeat(16 * qkv[:, :, 2].sum(axis=1, keepdims=True), 16, axis=1)
    np.testing.assert_array_equal(y, sums.reshape(3, 16, 10))


# -- The collection


def family_node(op):
    """The smallest node of an operator of the two families of linear layers."""
    norm = {"norm": (np.ones(4, F32), np.zeros(4, F32)), "epsilon": 1e-5} if "LayerNorm" in op else {}
    gelu = {"gelu": True, "approximate": "none"} if "Gelu" in op else {}
    parts = {**norm, **gelu, "residual": "Add" in op}
    if "Block" in op:
        return block_node(np.eye(4, dtype=np.int8), block=2, **parts)
    return linear_node(np.eye(4, dtype=np.int8), one_group(), normalize=1, **parts)


def block_attention(bias):
    """The smallest node of attention in blocks."""
    widths = {"qk_bits": 4, "v_bits": 5, "block": 3}
    p_groups = probability_table(np.random.default_rng(0), 16, 2)
    return block_attention_node(p_groups, np.arange(16, dtype=np.uint8), num_heads=2, scale=0.5, bias=bias, **widths)


NODES = {
    **{op: family_node(op) for op in LINEARS},
    **{op: family_node(op) for op in (name.replace("Group", "Block") for name in LINEARS)},
    "GroupAttention": attention_case(4, False)[0],
    "GroupAttentionBias": attention_case(4, False, (2, 1))[0],
    "BlockAttention": block_attention(False),
    "BlockAttentionBias": block_attention(np.zeros((2, 1, 9, 9), F32)),
}


@pytest.mark.parametrize("op", NODES)
def test_checker(op):
    """A file with the bodies is valid ONNX, shape inference included."""
    check_with_shapes(model_of(NODES[op]), [np.zeros((1, 1, 1))])


@pytest.mark.parametrize("op", OPERATORS)
def test_closure(op):
    """All that is called and nothing else, every name once, in an order that does not depend on the question."""
    found = functions_for([op])
    names = [item.name for item in found]
    assert op in names and len(set(names)) == len(names)
    assert names == [name for name in OPERATORS if name in names]
    called = {node.op_type for item in found for node in item.node if node.domain == DOMAIN}
    assert called <= set(names)
    assert set(names) - {op} <= called
    assert functions_for([op, op, *names]) == found


def test_closure_of_nothing():
    assert functions_for([]) == []


@pytest.mark.parametrize("op", OPERATORS)
def test_contract(op):
    """Domain and versions; weights that may be int4 go into operators of ONNX only."""
    body = function(op)
    assert (body.domain, body.name) == (DOMAIN, op)
    assert {item.domain: item.version for item in body.opset_import} == {"": 21, DOMAIN: 1}
    assert all("W" not in node.input for node in body.node if node.domain == DOMAIN)


@pytest.mark.parametrize("op", NODES)
def test_attributes_and_inputs_are_those_of_the_kernel(op):
    """The names and the order that the native operators read."""
    assert list(function(op).input) == NODES[op].inputs
    assert set(NODES[op].attributes) == set(function(op).attribute)


def test_one_table_for_all_images():
    """A body has no hidden batch: eight images are a stack of single ones."""
    rest = problem(12, "multiples", 24, 7)
    node = linear_node(**rest)
    x = normalized.exact_rows(np.random.default_rng(12), (8, 5, 24))
    together = run_node(node, {"X": x})
    for image in range(8):
        np.testing.assert_array_equal(run_node(node, {"X": x[image : image + 1]})[0], together[image])


def test_missing_body_is_an_error():
    """Without bodies and without the library a session must not open."""
    node = linear_node(np.eye(4, dtype=np.int8), one_group())
    with pytest.raises(Exception, match="GroupLinear"):
        run(node.model(), {"X": np.zeros((1, 2, 4), F32)})
