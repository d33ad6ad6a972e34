import numpy as np

from qcompiler.passes.fold_constants import FoldConstants

from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

GRAPH = """agraph (float[batch, 4] x) => (float[batch, 4] y) {
    c = Constant <value = float {16.0}> ()
    s = Sqrt (c)
    t = Transpose <perm = [1, 0]> (w)
    m = MatMul (x, t)
    y = Mul (m, s)
}"""


def graph():
    return model_of(GRAPH, w=weight(4, 4))


def test_golden():
    check_golden(
        FoldConstants,
        graph(),
        """
        x = input [batch, 4]
        %0 [batch, 4] = MatMul(x, t:float32[4, 4])  # MatMul_3
        %1 [batch, 4] = Mul(%0, 4)  # Mul_4
        y = output %1
        """,
    )


def test_not_applicable():
    check_unchanged(FoldConstants, model_of("agraph (float[4] x) => (float[4] y) { y = Relu (x) }"))


def test_idempotent():
    check_idempotent(FoldConstants, graph())


def test_numerical_oracle():
    check_equal(FoldConstants, graph(), 0.0, x=weight(3, 4, seed=1))


def test_random_operators_stay():
    text = "agraph (float[4] x) => (float[4] y) { r = RandomNormal <shape = [4]> ()  y = Add (x, r) }"
    check_unchanged(FoldConstants, model_of(text))


def test_large_growth_is_refused():
    text = "agraph (float[4096, 2048] x) => (float[4096, 2048] y) { e = Expand (c, s)  y = Add (x, e) }"
    model = model_of(text, c=np.zeros(1, np.float32), s=np.array([4096, 2048]))
    check_unchanged(FoldConstants, model, reason="much larger")


def test_all_kinds_of_constant_attributes():
    text = """agraph (int64[2] x) => (int64[2] y) {
        a = Constant <value_ints = [1, 2]> ()
        b = Constant <value_int = 3> ()
        s = Add (x, a)
        y = Mul (s, b)
    }"""
    graph, _ = applied(FoldConstants, model_of(text))
    assert [node.inputs[1].values.tolist() for node in graph.nodes] == [[1, 2], 3]


def test_inputs_left_out():
    """`Clip(c, , most)`: what is not there depends on nothing."""
    text = "agraph (float[3] x) => (float[3] y) { c = Clip (low, , most)  y = Add (x, c) }"
    model = model_of(text, low=np.array([-1, 1, 3], np.float32), most=np.array(2, np.float32))
    graph_, _ = applied(FoldConstants, model)
    (node,) = graph_.nodes
    assert node.inputs[1].values.tolist() == [-1, 1, 2]
