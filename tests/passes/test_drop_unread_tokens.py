import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.passes.drop_unread_tokens import DropUnreadTokens

from .helpers import applied, check_equal, check_golden, check_unchanged, model_of, weight

TEXT = "agraph (float[batch, 6, 4] x) => (float[OUT] y) { BODY }"
# Each with the shape of its result, which is read at one place or several.
BODIES = {
    "linear": ("batch, 9", "m = MatMul (x, w)  l = Add (m, b)  y = Gather <axis = 1> (l, first)"),
    "residual": (
        "batch, 4",
        """n = LayerNormalization <axis = -1> (x, gamma, beta)  m = MatMul (n, v)  g = Gelu (m)  s = Add (x, g)
           y = Gather <axis = 1> (s, last)""",
    ),
    "slice": ("batch, 2, 9", "m = MatMul (x, w)  l = Add (m, b)  y = Slice (l, one, five, axis, two)"),
    "order of the index": ("batch, 3, 9", "m = MatMul (x, w)  l = Add (m, b)  y = Gather <axis = 1> (l, some)"),
    "two readers": (
        "batch, 9",
        """m = MatMul (x, w)  l = Add (m, b)  f = Gather <axis = 1> (l, first)  e = Gather <axis = 1> (l, last)
           y = Add (f, e)""",
    ),
    "behind what mixes tokens": (
        "batch, 9",
        """t = Transpose <perm = [0, 2, 1]> (x)  q = MatMul (x, t)  a = MatMul (q, x)  m = MatMul (a, w)  l = Add (m, b)
           y = Gather <axis = 1> (l, first)""",
    ),
    "narrow within narrow": (
        "batch, 4",
        """m = MatMul (x, v)  s = Slice (m, one, five, axis, two)  g = Gelu (m)  h = MatMul (g, v)
           f = Gather <axis = 1> (h, last)  e = ReduceMean <keepdims = 0> (s, axis)  y = Add (f, e)""",
    ),
}
LEFT = {
    "a mean": "m = MatMul (x, w)  l = Add (m, b)  y = ReduceMean <keepdims = 0> (l, axis)",
    "no linear layer": "g = Gelu (x)  y = Gather <axis = 1> (g, first)",
    "most of the tokens": "m = MatMul (x, w)  l = Add (m, b)  y = Slice (l, one, six, axis)",
    "channels": "m = MatMul (x, w)  l = Add (m, b)  y = Gather <axis = 2> (l, first)",
    "a bias for each token": "m = MatMul (x, w)  l = Add (m, each)  y = Gather <axis = 1> (l, first)",
}
SHAPES = {"no linear layer": "batch, 4", "most of the tokens": "batch, 5, 9", "channels": "batch, 6"}
INDEX = {
    "first": np.int64(0),
    "last": np.int64(-1),
    "some": np.array([4, 0, 2]),
    "one": np.array([1]),
    "two": np.array([2]),
    "five": np.array([5]),
    "six": np.array([6]),
    "axis": np.array([1]),
}
WEIGHTS = {
    "w": weight(4, 9),
    "b": weight(9, seed=1),
    "gamma": weight(4, seed=2),
    "beta": weight(4, seed=3),
    "v": weight(4, 4, seed=5),
    "each": weight(6, 9, seed=6),
}


def graph(case="linear", **index):
    shape, body = BODIES[case] if case in BODIES else (SHAPES.get(case, "batch, 9"), LEFT[case])
    return model_of(TEXT.replace("OUT", shape).replace("BODY", body), **{**INDEX, **WEIGHTS, **index})


def linear_tokens(case, **index):
    graph_, _ = applied(DropUnreadTokens, graph(case, **index))
    return {node.name: node.outputs[0].shape[1] for node in graph_.nodes if node.op == "MatMul"}


def test_golden():
    check_golden(
        DropUnreadTokens,
        graph(),
        """
        x = input [batch, 6, 4]
        %0 [batch, 1, 4] = Gather(x, [0]; axis=1)  # x/Gather
        %1 [batch, 1, 9] = MatMul(%0, w:float32[4, 9])  # MatMul_0
        %2 [batch, 1, 9] = Add(%1, b:float32[9])  # Add_1
        %3 [batch, 9] = Gather(%2, 0; axis=1)  # Gather_2/Gather
        y = output %3
        """,
    )


def test_golden_only_what_is_behind_the_mixing_of_tokens():
    assert linear_tokens("behind what mixes tokens") == {"MatMul_1": 6, "MatMul_2": 6, "MatMul_3": 1}


def test_golden_every_tensor_keeps_what_any_reader_needs():
    assert linear_tokens("narrow within narrow") == {"MatMul_0": 3, "MatMul_3": 1}
    assert linear_tokens("two readers") == {"MatMul_0": 2}


@pytest.mark.parametrize("case", LEFT)
def test_not_applicable(case):
    check_unchanged(DropUnreadTokens, graph(case))


def test_not_applicable_to_an_output():
    text = TEXT.replace("(float[OUT] y)", "(float[batch, 9] y, float[batch, 6, 9] l)").replace(
        "BODY", BODIES["linear"][1]
    )
    check_unchanged(DropUnreadTokens, model_of(text, **INDEX, **WEIGHTS))


@pytest.mark.parametrize("case", BODIES)
def test_idempotent(case):
    graph_, _ = applied(DropUnreadTokens, graph(case))
    assert DropUnreadTokens().apply(graph_) is False


@pytest.mark.parametrize("case", BODIES)
def test_numerical_oracle(case):
    # 1e-6: the runtime may block the same sums differently.
    check_equal(DropUnreadTokens, graph(case), 1e-6, x=weight(3, 6, 4, seed=4))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-6, 5), min_size=1, max_size=3))
def test_numerical_oracle_for_any_index(index):
    shape = f"batch, {len(index)}, 9"
    text = TEXT.replace("OUT", shape).replace("BODY", BODIES["linear"][1])
    check_equal(
        DropUnreadTokens, model_of(text, **{**INDEX, "first": np.array(index)}, **WEIGHTS), 1e-6, x=weight(2, 6, 4)
    )
