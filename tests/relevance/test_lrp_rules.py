"""The rule of every operator, by itself: moves against tracked indices, linear operators against their dense matrix."""

import math

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from qcompiler.errors import UnsupportedModelError
from qcompiler.relevance.lrp_rules import rule_of
from qcompiler.relevance.lrp_shares import LINEAR_RULES
from qcompiler.relevance.lrp_visit import Reading, Visit

F = np.float32
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def whole(shape, seed=0, limit=3):
    return np.random.default_rng(seed).integers(-limit, limit + 1, shape).astype(F)


def forward(node, inputs):
    """The outputs of one node, from ONNX Runtime."""
    names = list(dict.fromkeys(filter(None, node.input)))
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(inputs[name].dtype), inputs[name].shape)
        for name in names
    ]
    outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in node.output]
    graph = helper.make_graph([node], "one", infos, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {name: inputs[name] for name in names})


def back(node, variables, constants=None, arrived=None, rule="zplus", shapes=None):
    """Relevance of the inputs, by name; the values a rule does not ask for are kept from it."""
    inputs = {**variables, **(constants or {})}
    shapes = shapes or [value.shape for value in forward(node, inputs)]
    found = rule_of(node)
    blind = [
        None
        if not name
        else Reading(name in variables, inputs[name].shape, None if name in variables else inputs[name])
        for name in node.input
    ]
    asked = set(found.reads(blind))
    seen = [
        None
        if not name
        else Reading(name in variables, inputs[name].shape, inputs[name] if index in asked else item.value)
        for index, (name, item) in enumerate(zip(node.input, blind, strict=True))
    ]
    visit = Visit(node, tuple(seen), tuple(shapes), tuple(arrived), LINEAR_RULES[rule])
    result = {}
    for name, relevance in zip(node.input, found.back(visit), strict=False):
        if relevance is not None and name in variables:
            assert relevance.shape == inputs[name].shape
            assert relevance.dtype == F
            result[name] = result.get(name, 0) + relevance
    return result


def ints(*values):
    return np.array(values, np.int64)


X = (2, 3, 4, 6)
LARGE = np.iinfo(np.int64).max
MOVES = {
    "Reshape": (helper.make_node("Reshape", ["x", "to"], ["y"]), {"to": ints(0, -1, 4)}),
    "Flatten": (helper.make_node("Flatten", ["x"], ["y"], axis=2), {}),
    "Unsqueeze": (helper.make_node("Unsqueeze", ["x", "axes"], ["y"]), {"axes": ints(0, -1)}),
    "Transpose": (helper.make_node("Transpose", ["x"], ["y"], perm=[2, 0, 3, 1]), {}),
    "Transpose, all axes": (helper.make_node("Transpose", ["x"], ["y"]), {}),
    "Split": (helper.make_node("Split", ["x", "sizes"], ["y", "z", "w"], axis=-1), {"sizes": ints(1, 3, 2)}),
    "Split, equal": (helper.make_node("Split", ["x"], ["y", "z"], axis=2, num_outputs=2), {}),
    "Slice": (
        helper.make_node("Slice", ["x", "starts", "ends"], ["y"]),
        {"starts": ints(0, 1), "ends": ints(LARGE, -1)},
    ),
    "Slice, axes": (
        helper.make_node("Slice", ["x", "starts", "ends", "axes"], ["y"]),
        {"starts": ints(-3, 0), "ends": ints(LARGE, 2), "axes": ints(-1, 1)},
    ),
    "Slice, steps": (
        helper.make_node("Slice", ["x", "starts", "ends", "axes", "steps"], ["y"]),
        {"starts": ints(1, -1), "ends": ints(LARGE, -LARGE), "axes": ints(2, 3), "steps": ints(2, -2)},
    ),
    "Slice, backwards to the front": (
        helper.make_node("Slice", ["x", "starts", "ends", "axes", "steps"], ["y"]),
        {"starts": ints(100), "ends": ints(-7), "axes": ints(3), "steps": ints(-1)},
    ),
    "Gather, scalar": (helper.make_node("Gather", ["x", "at"], ["y"], axis=1), {"at": np.array(2)}),
    "Gather, repeated": (
        helper.make_node("Gather", ["x", "at"], ["y"], axis=-1),
        {"at": np.array([[0, 5, 0], [-1, 2, 0]])},
    ),
    "Pad": (helper.make_node("Pad", ["x", "pads"], ["y"]), {"pads": ints(0, 1, 0, 2, 0, 3, 1, 0)}),
    "Pad, axes, cutting": (
        helper.make_node("Pad", ["x", "pads", "", "axes"], ["y"]),
        {"pads": ints(-1, 2, 1, -3), "axes": ints(1, 3)},
    ),
    "Expand": (helper.make_node("Expand", ["x", "to"], ["y"]), {"to": ints(5, 2, 3, 4, 6)}),
}  # fmt: skip


@pytest.mark.parametrize("which", MOVES)
def test_moves(which):
    """Element numbers, run through the operator itself, tell where each element of the result came from."""
    node, constants = MOVES[which]
    count = math.prod(X)
    numbers = np.arange(1, count + 1, dtype=F).reshape(X)  # padding is 0: it came from nowhere
    sources = forward(node, {"x": numbers, **constants})
    arrived = [whole(source.shape, seed) for seed, source in enumerate(sources)]
    expected = np.zeros(count + 1)
    for source, relevance in zip(sources, arrived, strict=True):
        np.add.at(expected, source.astype(int).ravel(), relevance.ravel())
    found = back(node, {"x": whole(X)}, constants, arrived)
    np.testing.assert_array_equal(found["x"].ravel(), expected[1:])


@pytest.mark.parametrize(
    ("op", "options"),
    [("DepthToSpace", {}), ("DepthToSpace", {"mode": "DCR"}), ("DepthToSpace", {"mode": "CRD"}), ("SpaceToDepth", {})],
    ids=str,
)
def test_pixels_and_channels(op, options):
    """Element numbers, run through the operator itself, as above."""
    node, shape = helper.make_node(op, ["x"], ["y"], blocksize=2, **options), (2, 8, 4, 6)
    (source,) = forward(node, {"x": np.arange(math.prod(shape), dtype=F).reshape(shape)})
    relevance = whole(source.shape)
    expected = np.zeros(math.prod(shape))
    expected[source.astype(int).ravel()] = relevance.ravel()
    found = back(node, {"x": whole(shape)}, {}, [relevance])["x"]
    np.testing.assert_array_equal(found.ravel(), expected)


def test_split_with_a_part_that_nobody_reads():
    node, constants = MOVES["Split"]
    x = whole(X)
    parts = forward(node, {"x": x, **constants})
    found = back(node, {"x": x}, constants, [None, np.ones_like(parts[1]), None])["x"]
    np.testing.assert_array_equal(found, np.isin(np.arange(6), [1, 2, 3]) * np.ones(X))


def test_squeeze():
    node = helper.make_node("Squeeze", ["x", "axes"], ["y"])
    relevance = whole((2, 3))
    found = back(node, {"x": whole((2, 1, 3))}, {"axes": ints(1)}, [relevance])["x"]
    np.testing.assert_array_equal(found, relevance[:, None])


@pytest.mark.parametrize("axis", [1, -1])
def test_concat(axis):
    a, b, c = whole((2, 3, 1)), whole((2, 3, 1)), whole((2, 3, 1))
    node = helper.make_node("Concat", ["a", "b", "c"], ["y"], axis=axis)
    relevance = whole((2, 9, 1) if axis == 1 else (2, 3, 3))
    found = back(node, {"a": a, "c": c}, {"b": b}, [relevance])
    np.testing.assert_array_equal(found["a"], relevance[:, :3] if axis == 1 else relevance[..., :1])
    np.testing.assert_array_equal(found["c"], relevance[:, 6:] if axis == 1 else relevance[..., 2:])


def test_pad_that_repeats_values_is_refused():
    node = helper.make_node("Pad", ["x", "pads"], ["y"], mode="reflect")
    with pytest.raises(UnsupportedModelError, match=r"'Pad' in mode 'reflect' \(node ''\)"):
        back(node, {"x": whole((4, 4))}, {"pads": ints(1, 1, 1, 1)}, [whole((6, 6))])


def conv(shape, weight, **attributes):
    return helper.make_node("Conv", ["x", "w", "b"], ["y"], **attributes), shape, {"w": weight}


# Node, shape of the variable x, constants; a bias b is added to those that take one.
LINEAR = {
    "MatMul": (helper.make_node("MatMul", ["x", "w"], ["y"]), (2, 3, 5), {"w": (5, 4)}),
    "MatMul, matrices": (helper.make_node("MatMul", ["x", "w"], ["y"]), (2, 3, 5), {"w": (2, 5, 4)}),
    "MatMul, broadcast matrices": (helper.make_node("MatMul", ["x", "w"], ["y"]), (1, 3, 5), {"w": (2, 5, 4)}),
    "MatMul, constant on the left": (helper.make_node("MatMul", ["w", "x"], ["y"]), (2, 5, 3), {"w": (4, 5)}),
    "MatMul, vector": (helper.make_node("MatMul", ["x", "w"], ["y"]), (2, 3, 5), {"w": (5,)}),
    "MatMul, vector on the left": (helper.make_node("MatMul", ["w", "x"], ["y"]), (2, 5, 3), {"w": (5,)}),
    "MatMul, variable vector": (helper.make_node("MatMul", ["x", "w"], ["y"]), (5,), {"w": (5, 4)}),
    "MatMul, vectors": (helper.make_node("MatMul", ["x", "w"], ["y"]), (5,), {"w": (5,)}),
    "Gemm": (helper.make_node("Gemm", ["x", "w"], ["y"]), (3, 5), {"w": (5, 4)}),
    "Gemm, turned": (helper.make_node("Gemm", ["x", "w", "b"], ["y"], transA=1, transB=1), (5, 3), {"w": (4, 5)}),
    "Gemm, negative": (helper.make_node("Gemm", ["x", "w", "b"], ["y"], alpha=-0.5, beta=2.0), (3, 5), {"w": (5, 4)}),
    "Gemm, constant on the left": (helper.make_node("Gemm", ["w", "x"], ["y"], transB=1), (3, 5), {"w": (4, 5)}),
    "Conv, patches": conv((2, 2, 4, 4), (4, 2, 2, 2), strides=[2, 2]),
    "Conv, padded": conv((1, 2, 5, 4), (3, 2, 3, 3), pads=[1, 0, 2, 1], strides=[2, 1]),
    "Conv, dilated": conv((1, 1, 6, 5), (2, 1, 2, 3), dilations=[2, 1]),
    "Conv, depthwise": conv((2, 4, 3, 3), (4, 1, 3, 3), group=4, pads=[1, 1, 1, 1]),
    "Conv, groups": conv((1, 4, 3, 3), (6, 2, 2, 2), group=2),
    "Conv, one axis": conv((2, 3, 7), (2, 3, 3), strides=[2], pads=[1, 0]),
    "Conv, same": conv((1, 1, 5, 4), (2, 1, 2, 3), auto_pad="SAME_UPPER", strides=[2, 1]),
    "Conv, same in front": conv((1, 1, 5, 4), (2, 1, 2, 3), auto_pad="SAME_LOWER", strides=[2, 1]),
}


@pytest.mark.parametrize("rule", LINEAR_RULES)
@pytest.mark.parametrize("which", LINEAR)
def test_linear(which, rule):
    """Any of these is `y = x M + b`: M, from unit vectors run through the operator, tells the terms of each output."""
    node, shape, constants = LINEAR[which]
    x = whole(shape, 1)
    constants = {name: whole(size, 2) for name, size in constants.items()}
    if "b" in node.input:
        constants["b"] = np.zeros(4 if node.op_type == "Gemm" else len(constants["w"]), F)
    units = np.eye(x.size, dtype=F).reshape(x.size, *shape)
    dense = np.stack([forward(node, {"x": unit, **constants})[0].ravel() for unit in units]).astype(float)
    y = forward(node, {"x": x, **constants})[0]
    np.testing.assert_allclose(x.ravel() @ dense, y.ravel(), rtol=1e-5)  # the matrix is the operator
    relevance = whole(y.shape, 3, limit=9)
    terms = x.ravel().astype(float)[:, None] * dense
    if rule == "zplus":
        counted = np.maximum(terms, 0)
    else:
        counted = np.where(terms * terms.sum(0) > 0, 1.25, 1.0) * terms * (terms.sum(0) != 0)
    totals = counted.sum(0)
    shares = np.divide(counted, totals, out=np.zeros_like(counted), where=totals != 0)
    if "b" in constants:
        constants["b"] = whole(constants["b"].shape, 4) + 1  # has no part in the rule
    found = back(node, {"x": x}, constants, [relevance], rule)
    np.testing.assert_allclose(found["x"].ravel(), shares @ relevance.ravel(), **CLOSE)


@pytest.mark.parametrize("turned", [0, 1])
def test_products_of_activations(turned):
    a, b, relevance = whole((3, 5), 1), whole((5, 4), 2), whole((3, 4), 3)
    terms = a[:, :, None].astype(float) * b[None]
    totals = terms.sum(axis=1, keepdims=True)
    shares = np.divide(terms, totals, out=np.zeros_like(terms), where=totals != 0) * relevance[:, None] / 2
    expected_a, expected_b = shares.sum(axis=2), shares.sum(axis=0)
    matmul = helper.make_node("MatMul", ["a", "b"], ["y"])
    gemm = helper.make_node("Gemm", ["a", "b"], ["y"], transB=turned, alpha=-2.0)
    for node, second, back_turned in ((matmul, b, False), (gemm, b.T if turned else b, bool(turned))):
        found = back(node, {"a": a, "b": np.ascontiguousarray(second)}, {}, [relevance])
        np.testing.assert_allclose(found["a"], expected_a, **CLOSE)
        np.testing.assert_allclose(found["b"], expected_b.T if back_turned else expected_b, **CLOSE)


@pytest.mark.parametrize("op", ["Add", "Sub"])
def test_sum_of_activations_follows_magnitude(op):
    a, b = F([[3, -3, 0, 0, 5]]), F([[1, 1, 4, 0, -5]])
    found = back(helper.make_node(op, ["a", "b"], ["y"]), {"a": a, "b": b}, {}, [F([[8, 8, 8, 8, 8]])])
    np.testing.assert_allclose(found["a"], [[6, 6, 0, 0, 4]])
    np.testing.assert_allclose(found["b"], [[2, 2, 8, 0, 4]])


def test_a_tensor_added_to_itself_gets_both_shares():
    node = helper.make_node("Add", ["a", "a"], ["y"])
    np.testing.assert_allclose(back(node, {"a": F([2, -1])}, {}, [F([6, 4])])["a"], [6, 4])


def test_sum_of_three():
    node = helper.make_node("Sum", ["a", "b", "c"], ["y"])
    found = back(node, {"a": F([1]), "b": F([-2]), "c": F([5])}, {}, [F([16])])
    assert {name: value.item() for name, value in found.items()} == {"a": 2, "b": 4, "c": 10}


@pytest.mark.parametrize("order", [["x", "c"], ["c", "x"]])
@pytest.mark.parametrize("op", ["Add", "Sub"])
@pytest.mark.parametrize("shape", [(), (4,), (1, 1, 4), (1, 3, 1), (2, 1, 1)])
def test_a_bias_is_ignored(op, order, shape):
    relevance = whole((2, 3, 4), 1)
    found = back(helper.make_node(op, order, ["y"]), {"x": whole((2, 3, 4))}, {"c": np.full(shape, 7, F)}, [relevance])
    np.testing.assert_array_equal(found["x"], relevance)


@pytest.mark.parametrize("order", [["x", "c"], ["c", "x"]])
@pytest.mark.parametrize("op", ["Add", "Sub"])
@pytest.mark.parametrize("shape", [(3, 4), (1, 3, 4), (2, 3, 1)])
def test_a_constant_of_places_takes_its_share(op, order, shape):
    x, constant, relevance = whole((2, 3, 4)), whole(shape, 1), whole((2, 3, 4), 2)
    found = back(helper.make_node(op, order, ["y"]), {"x": x}, {"c": constant}, [relevance])
    sizes = np.abs(x) + np.abs(constant)
    expected = np.divide(np.abs(x), sizes, out=np.zeros_like(x), where=sizes != 0) * relevance
    np.testing.assert_allclose(found["x"], expected, rtol=1e-5)


@pytest.mark.parametrize("op", ["Mul", "Div"])
def test_scaling_is_the_identity(op):
    relevance = whole((2, 3, 4), 1)
    for constant in (np.array(-3, F), F([1, 2, 0.5, -1]), np.full((3, 4), 2, F)):
        found = back(helper.make_node(op, ["x", "c"], ["y"]), {"x": whole((2, 3, 4))}, {"c": constant}, [relevance])
        np.testing.assert_array_equal(found["x"], relevance)
    found = back(helper.make_node("Mul", ["c", "x"], ["y"]), {"x": whole((3, 1))}, {"c": whole((2, 3, 4))}, [relevance])
    np.testing.assert_array_equal(found["x"], relevance.sum(axis=(0, 2))[:, None])


def test_elementwise_products_halve():
    relevance = whole((2, 3, 4), 1)
    variables = {"a": whole((2, 3, 4)), "b": whole((2, 1, 4))}
    found = back(helper.make_node("Mul", ["a", "b"], ["y"]), variables, {}, [relevance])
    np.testing.assert_array_equal(found["a"], relevance / 2)
    np.testing.assert_array_equal(found["b"], relevance.sum(axis=1, keepdims=True) / 2)
    square = back(helper.make_node("Mul", ["a", "a"], ["y"]), {"a": variables["a"]}, {}, [relevance])
    np.testing.assert_array_equal(square["a"], relevance)


def test_quotients():
    relevance = whole((2, 3), 1)
    node = helper.make_node("Div", ["a", "b"], ["y"])
    found = back(node, {"a": whole((2, 3)), "b": np.ones((2, 1), F)}, {}, [relevance])
    assert list(found) == ["a"]
    np.testing.assert_array_equal(found["a"], relevance)
    found = back(node, {"b": np.ones((2, 1), F)}, {"a": whole((2, 3))}, [relevance])
    np.testing.assert_array_equal(found["b"], relevance.sum(axis=1, keepdims=True))


def mean(op, *axes, **attributes):
    constants = {"axes": ints(*axes)} if axes else {}
    return helper.make_node(op, ["x", *constants], ["y"], **attributes), constants, axes or (0, 1, 2, 3)


MEANS = {
    "ReduceMean": mean("ReduceMean", 1, 2),
    "ReduceMean, from behind": mean("ReduceMean", -1, keepdims=0),
    "ReduceMean, all": mean("ReduceMean", keepdims=0),
    "ReduceSum": mean("ReduceSum", 2),
    "GlobalAveragePool": (helper.make_node("GlobalAveragePool", ["x"], ["y"]), {}, (2, 3)),
}


@pytest.mark.parametrize("which", MEANS)
def test_means(which):
    node, constants, axes = MEANS[which]
    axes = tuple(axis % 4 for axis in axes)
    x = whole((2, 3, 4, 6))
    x[0, 0] = -np.abs(x[0, 0]) - 1  # a mean below zero passes relevance on too
    y = forward(node, {"x": x, **constants})[0]
    relevance = whole(y.shape, 1)
    found = back(node, {"x": x}, constants, [relevance])["x"]
    kept = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    total = x.sum(axis=axes, keepdims=True)
    used = np.where(x * total > 0, x, 0).astype(float)
    shares = np.divide(used, used.sum(axis=axes, keepdims=True), out=np.zeros_like(used), where=used != 0)
    np.testing.assert_allclose(found, shares * relevance.reshape(kept), rtol=1e-5)
    assert (used.sum(axis=axes) < 0).any() or which == "ReduceMean, all"


@pytest.mark.parametrize("op", ["LayerNormalization", "Gelu", "Softmax", "Relu", "Tanh", "Sigmoid", "Identity"])
def test_passed_on(op):
    relevance = whole((2, 3, 4), 1)
    constants = {"scale": F([1, 2, 3, 4]), "shift": F([0, 1, 2, 3])} if op == "LayerNormalization" else {}
    found = back(helper.make_node(op, ["x", *constants], ["y"]), {"x": whole((2, 3, 4))}, constants, [relevance])
    np.testing.assert_array_equal(found["x"], relevance)


def test_unknown_operators():
    relevance = whole((2, 3), 1)
    found = back(helper.make_node("Softplus", ["x"], ["y"]), {"x": whole((2, 3))}, {}, [relevance])
    np.testing.assert_array_equal(found["x"], relevance)
    other = helper.make_node("Add", ["x", "z"], ["y"], name="n", domain="somebody.else")
    for variables in ({"x": (2, 3), "z": (2, 3)}, {"x": (2, 1)}):
        values = {name: whole(shape) for name, shape in variables.items()}
        constants = {"z": whole((2, 3))} if "z" not in values else {}
        with pytest.raises(UnsupportedModelError, match=r"no rule for operator 'Add' \(node 'n'\)"):
            back(other, values, constants, [relevance], shapes=[(2, 3)])
    fewer = helper.make_node("Compress", ["x", "kept"], ["y"], axis=1)
    with pytest.raises(UnsupportedModelError, match="'Compress'"):
        back(fewer, {"x": whole((2, 3))}, {"kept": np.array([True, False, True])}, [whole((2, 2))])


def test_products_in_index_form():
    """Halves to two computed operands, all of it to one, in proportion to magnitudes within each image."""
    x, z, relevance = whole((2, 3, 4)), whole((2, 4), 2), whole((2, 3), 1)
    node = helper.make_node("Einsum", ["x", "z"], ["y"], equation="bij,bj->bi", name="e")
    both = back(node, {"x": x, "z": z}, {}, [relevance])
    one = back(node, {"x": x}, {"z": z}, [relevance])
    for found, values, part in ((both["x"], x, 0.5), (both["z"], z, 0.5), (one["x"], x, 1.0)):
        for row, arrived, got in zip(np.abs(values), relevance, found, strict=True):
            np.testing.assert_allclose(got, part * arrived.sum() * row / row.sum(), rtol=1e-5)  # float32 sums
    turned = helper.make_node("Einsum", ["x", "z"], ["y"], equation="bij,bj->ib", name="e")
    with pytest.raises(UnsupportedModelError, match=r"'Einsum' over the first axis of an operand \(node 'e'\)"):
        back(turned, {"x": x, "z": z}, {}, [relevance.T])


RESIZING = {
    "MaxPool": ({"kernel_shape": [2, 2], "strides": [2, 2]}, {}),
    "AveragePool": ({"kernel_shape": [2, 2], "strides": [2, 2]}, {}),
    "GlobalMaxPool": ({}, {}),
    "ConvTranspose": ({"strides": [2, 2]}, {"w": (4, 2, 2, 2)}),
    "ReduceMax": ({"keepdims": 0}, {"axes": None}),
}


@pytest.mark.parametrize("op", RESIZING)
def test_maps_of_another_size_spread_relevance_by_magnitude(op):
    attributes, others = RESIZING[op]
    x = whole((2, 4, 4, 4))
    constants = {name: ints(2, 3) if shape is None else whole(shape, 2) for name, shape in others.items()}
    node = helper.make_node(op, ["x", *constants], ["y"], **attributes)
    (y,) = forward(node, {"x": x, **constants})
    relevance = whole(y.shape, 1)
    found = back(node, {"x": x}, constants, [relevance])["x"]
    for image, part, arrived in zip(x, found, relevance, strict=True):
        # 1e-5: float32 sums of 64 terms
        np.testing.assert_allclose(part, np.abs(image) * (arrived.sum() / np.abs(image).sum()), rtol=1e-5)


def test_refusals_that_name_the_node():
    x, relevance = whole((2, 3)), whole((2, 3), 1)
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc")
    with pytest.raises(UnsupportedModelError, match=r"'Gemm' that adds a computed tensor \(node 'fc'\)"):
        back(gemm, {"x": x, "b": whole(3)}, {"w": whole((3, 3))}, [relevance])
    conv_node = helper.make_node("Conv", ["x", "w"], ["y"], name="c")
    image, kernel = whole((1, 1, 3, 3)), whole((1, 1, 2, 2))
    with pytest.raises(UnsupportedModelError, match=r"'Conv' with computed weights \(node 'c'\)"):
        back(conv_node, {"x": image, "w": kernel}, {}, [whole((1, 1, 2, 2))])
    gather = helper.make_node("Gather", ["x", "at"], ["y"], name="g")
    with pytest.raises(UnsupportedModelError, match=r"'Gather' whose input 1 is no constant \(node 'g'\)"):
        back(gather, {"x": x, "at": np.array([1])}, {}, [whole((1, 3))])
