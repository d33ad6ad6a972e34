import numpy as np
import pytest

from qcompiler.passes.remove_noops import RemoveNoops

from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

GRAPH = """agraph (float[batch, 4, 6] x) => (float[batch, 4, 6] y) {
    a = Identity (x)
    b = Dropout (a)
    c = Cast <to = 1> (b)
    d = Slice (c, zero, many, axis, one)
    e = Transpose <perm = [0, 1, 2]> (d)
    f = Pad (e, pads)
    g = Mul (f, unit)
    h = Reshape (g, s)
    i = Reshape (h, t)
    j = Reshape (i, u)
    k = Transpose <perm = [0, 2, 1]> (j)
    y = Transpose <perm = [0, 2, 1]> (k)
}"""
CONSTANTS = {
    "zero": np.array([0]),
    "many": np.array([2**62]),
    "axis": np.array([1]),
    "one": np.array([1]),
    "pads": np.zeros(6, np.int64),
    "unit": np.array(1.0, np.float32),
    "s": np.array([0, 24]),
    "t": np.array([0, 2, 12]),
    "u": np.array([0, 6, 4]),
}


def graph():
    return model_of(GRAPH.replace("[batch, 4, 6] y", "[batch, 6, 4] y"), **CONSTANTS)


def test_golden():
    check_golden(
        RemoveNoops,
        graph(),
        """
        x = input [batch, 4, 6]
        %0 [batch, 6, 4] = Reshape(x, [0, 6, 4])  # Reshape_9
        y = output %0
        """,
    )


NOT_APPLICABLE = {
    "reversed slice": (
        "agraph (float[batch, 4] x) => (float[batch, 4] y) { y = Slice (x, a, b, c, d) }",
        {"a": np.array([-1]), "b": np.array([-(2**62)]), "c": np.array([1]), "d": np.array([-1])},
    ),
    "shared inner transpose": (
        """agraph (float[batch, 4, 6] x) => (float[batch, 4, 6] y, float[batch, 6, 4] z) {
            t = Transpose <perm = [0, 2, 1]> (x)
            z = Relu (t)
            y = Transpose <perm = [0, 2, 1]> (t)
        }""",
        {},
    ),
    "broadcast by a one": (
        "agraph (float[batch, 1] x) => (float[batch, 4] y) { y = Mul (x, ones) }",
        {"ones": np.ones((1, 4), np.float32)},
    ),
    "input to output": ("agraph (float[batch, 4] x) => (float[batch, 4] y) { y = Identity (x) }", {}),
}


@pytest.mark.parametrize("case", NOT_APPLICABLE)
def test_not_applicable(case):
    text, constants = NOT_APPLICABLE[case]
    check_unchanged(RemoveNoops, model_of(text, **constants))


def test_idempotent():
    check_idempotent(RemoveNoops, graph())


def test_numerical_oracle():
    check_equal(RemoveNoops, graph(), 0.0, x=weight(3, 4, 6))


def test_expand_before_a_broadcasting_operator():
    text = """agraph (float[2, 4, 6] x) => (float[2, 4, 6] y) { e = Expand (r, s)  z = Relu (x)  y = Add (z, e) }"""
    model = model_of("agraph (float[2, 4, 6] x, float[1, 1, 6] r) => " + text.split("=>", 1)[1], s=np.array([2, 4, 6]))
    graph, _ = applied(RemoveNoops, model)
    assert [node.op for node in graph.nodes] == ["Relu", "Add"]
    check_equal(RemoveNoops, model, 0.0, x=weight(2, 4, 6), r=weight(1, 1, 6))
