import numpy as np
import pytest

from qcompiler.errors import ModelFileError, UnsupportedModelError
from qcompiler.ir.dims import Batch
from qcompiler.ir.importing import to_graph
from qcompiler.ir.shapes import annotate, batch_name, infer
from tests.passes.helpers import model_of, run, weight

B = Batch(1)
HEAD = "agraph (float[batch, 4, 6] x) => (float t) "
# body, constants, shape of t; the runtime is the oracle at batch 3.
RULES = {
    "reshape with -1": ("t = Reshape (x, s)", {"s": [-1, 6]}, (Batch(4), 6)),
    "reshape with 0": ("t = Reshape (x, s)", {"s": [0, -1]}, (B, 24)),
    "allowzero": ("t = Reshape <allowzero = 1> (x, s)", {"s": [-1, 8]}, (Batch(3), 8)),
    "windows and back": ("a = Reshape (x, s)  t = Reshape (a, r)", {"s": [-1, 6], "r": [-1, 4, 6]}, (B, 4, 6)),
    "flatten": ("t = Flatten <axis = 2> (x)", {}, (Batch(4), 6)),
    "expand": ("s = Shape (x)  t = Expand (c, s)", {"c": np.zeros(6, np.float32)}, (B, 4, 6)),
    "tile": (
        "s = Shape <start = 0, end = 1> (x)  r = Concat <axis = 0> (s, two)  t = Tile (c, r)",
        {"c": np.zeros((1, 6), np.float32), "two": [2]},
        (B, 12),
    ),
    "resize to sizes": (
        "f = Unsqueeze (x, a)  s = Shape <start = 0, end = 2> (f)  n = Concat <axis = 0> (s, u)  t = Resize (f, , , n)",
        {"a": [1], "u": [7, 6]},
        (B, 1, 7, 6),
    ),
    "resize by scales": (
        "f = Unsqueeze (x, a)  t = Resize (f, , c)",
        {"a": [1], "c": np.array([1, 1, 1.6, 0.5], np.float32)},
        (B, 1, 6, 3),
    ),
    "resize some axes": (
        "f = Unsqueeze (x, a)  t = Resize <axes = [3, 2]> (f, , , u)",
        {"a": [1], "u": [7, 5]},
        (B, 1, 5, 7),
    ),
    "constant of shape": ("s = Shape <start = 0, end = 2> (x)  t = ConstantOfShape (s)", {}, (B, 4)),
    "matmul": ("t = MatMul (x, w)", {"w": weight(6, 2)}, (B, 4, 2)),
    "gather of a token": ("t = Gather <axis = 1> (x, i)", {"i": 0}, (B, 6)),
    "mean": ("t = ReduceMean <keepdims = 0> (x, a)", {"a": [1]}, (B, 6)),
}


@pytest.mark.parametrize("case", RULES)
def test_rules_agree_with_the_runtime(case):
    body, constants, expected = RULES[case]
    arrays = {
        name: value if isinstance(value, np.ndarray) else np.array(value, np.int64) for name, value in constants.items()
    }
    model = model_of(HEAD + "{" + body + "}", **arrays)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    graph = to_graph(model)
    assert infer(graph).shape(graph.outputs[0]) == expected
    got = run(model, {"x": weight(3, 4, 6)})[0].shape
    assert got == tuple(dim.multiple * 3 if isinstance(dim, Batch) else dim for dim in expected)


def test_values_follow_shape_arithmetic():
    text = """agraph (float[batch, 4, 6] x) => (int64[2] t) {
        s = Shape (x)  b = Gather <axis = 0> (s, first)  c = Mul (b, sixteen)  d = Div (c, four)
        n = Size (x)  e = Unsqueeze (d, zero)  f = Div (n, six)  g = Unsqueeze (f, zero)
        t = Concat <axis = 0> (e, g) }"""
    constants = {"first": 0, "sixteen": 16, "four": 4, "six": 6, "zero": [0]}
    graph = to_graph(model_of(text, **{name: np.array(value, np.int64) for name, value in constants.items()}))
    assert infer(graph).values["t"].tolist() == [Batch(4), Batch(4)]


def test_annotations_are_written():
    text = "agraph (float[n, 4, 6] x) => (float[n, 4, 6] y) { r = Reshape (x, s)  z = Relu (r)  y = Reshape (z, u) }"
    graph = to_graph(model_of(text, s=np.array([-1, 6]), u=np.array([-1, 4, 6])))
    annotate(graph)
    assert graph.nodes[1].outputs[0].shape == ["4*n", 6]
    assert graph.nodes[1].outputs[0].dtype == np.float32
    assert batch_name(graph) == "n"


def test_fixed_batch_is_known():
    graph = to_graph(model_of("agraph (float[8, 4] x) => (float[8, 4] y) { y = Relu (x) }"))
    assert infer(graph).images == 8


def test_inputs_with_different_symbols_are_refused():
    text = "agraph (float[a, 4] x, float[b, 4] z) => (float[a, 4] y) { y = Add (x, z) }"
    with pytest.raises(UnsupportedModelError, match="different batch symbols"):
        infer(to_graph(model_of(text)))


def test_contradicting_node_is_named():
    text = "agraph (float[batch, 4] x) => (float[batch, 4] y) { y = MatMul (x, w) }"
    with pytest.raises(ModelFileError, match=r"node 'MatMul_0' \(MatMul\) is inconsistent"):
        infer(to_graph(model_of(text, w=weight(5, 4))))
