import numpy as np
import pytest

from qcompiler.passes.merge_qkv import MergeQkv

from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

LAYERS = """agraph (float[batch, 5, 4] x) => (float[batch, 5, 9] y) {
    q0 = MatMul (x, wq)  q = Add (q0, bq)
    k = MatMul (x, wk)
    v0 = MatMul (x, wv)  v = Add (v0, bv)
    y = Concat <axis = AXIS> (q, k, v)
}"""


def graph(axis=-1, text=LAYERS):
    weights = {name: weight(4, 3, seed=index) for index, name in enumerate(("wq", "wk", "wv"))}
    biases = {name: weight(3, seed=index) for index, name in enumerate(("bq", "bv"), start=5)}
    return model_of(text.replace("AXIS", str(axis)), **weights, **biases)


def test_golden():
    check_golden(
        MergeQkv,
        graph(),
        """
        x = input [batch, 5, 4]
        %0 [batch, 5, 9] = MatMul(x, Concat_5/weight:float32[4, 9])  # Concat_5/MatMul
        %1 [batch, 5, 9] = Add(%0, Concat_5/bias:float32[9])  # Concat_5/Add
        y = output %1
        """,
    )


def test_not_applicable():
    other_input = LAYERS.replace("k = MatMul (x, wk)", "r = Relu (x)  k = MatMul (r, wk)")
    check_unchanged(MergeQkv, graph(text=other_input), reason="not all parts are linear layers of the same input")
    other_axis = LAYERS.replace("[batch, 5, 9]", "[batch, 15, 3]")
    check_unchanged(MergeQkv, graph(axis=1, text=other_axis), reason="another axis")


@pytest.mark.parametrize("axis", [-1, 2])
def test_idempotent(axis):
    check_idempotent(MergeQkv, graph(axis))


def test_numerical_oracle():
    check_equal(MergeQkv, graph(), 1e-6, x=weight(2, 5, 4, seed=9))  # the same sums, blocked differently


def test_missing_bias_counts_as_zeros():
    graph_, _ = applied(MergeQkv, graph())
    assert graph_.nodes[1].inputs[1].values[3:6].tolist() == [0.0] * 3
    without = LAYERS.replace("q0 = MatMul (x, wq)  q = Add (q0, bq)", "q = MatMul (x, wq)")
    without = without.replace("v0 = MatMul (x, wv)  v = Add (v0, bv)", "v = MatMul (x, wv)")
    graph_, _ = applied(MergeQkv, graph(text=without))
    assert [node.op for node in graph_.nodes] == ["MatMul"]
    assert np.shape(graph_.nodes[0].inputs[1].values) == (4, 9)
