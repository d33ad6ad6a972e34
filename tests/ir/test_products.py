"""Multiply-accumulates of single products, counted by hand."""

import pytest

from qcompiler.ir.importing import to_graph
from qcompiler.ir.products import products
from qcompiler.ir.shapes import infer
from tests.passes.helpers import model_of, weight

CASES = {
    "MatMul": ("float[n, 5, 4] x) => (float[n, 5, 3] y", "y = MatMul (x, w)", (4, 3), 5 * 4 * 3),
    "fixed batch": ("float[8, 5, 4] x) => (float[8, 5, 3] y", "y = MatMul (x, w)", (4, 3), 5 * 4 * 3),
    "constant left": ("float[n, 4, 5] x) => (float[n, 3, 5] y", "y = MatMul (w, x)", (3, 4), 3 * 4 * 5),
    "two tensors": (
        "float[n, 2, 5, 4] x, float[n, 2, 4, 7] z) => (float[n, 2, 5, 7] y",
        "y = MatMul (x, z)",
        (1,),
        2 * 5 * 4 * 7,
    ),
    "Gemm": ("float[n, 4] x) => (float[n, 3] y", "y = Gemm <transB = 1> (x, w)", (3, 4), 4 * 3),
    "turned Gemm": ("float[4, 6] x) => (float[6, 3] y", "y = Gemm <transA = 1> (x, w)", (4, 3), 6 * 4 * 3 // 4),
    "Conv": (
        "float[n, 4, 9, 9] x) => (float[n, 6, 4, 4] y",
        "y = Conv <group = 2, strides = [2, 2]> (x, w)",
        (6, 2, 3, 3),
        4 * 4 * 6 * 2 * 9,
    ),
    "ConvTranspose": (
        "float[n, 4, 3, 3] x) => (float[n, 6, 6, 6] y",
        "y = ConvTranspose <group = 2, strides = [2, 2]> (x, w)",
        (4, 3, 2, 2),
        3 * 3 * 4 * 3 * 4,
    ),
    "Einsum": (
        "float[n, 5, 4] x) => (float[n, 3, 5] y",
        'y = Einsum <equation = "bnc, cd -> bdn"> (x, w)',
        (4, 3),
        5 * 4 * 3,
    ),
}


def counted(types, body, **values):
    graph = to_graph(model_of(f"agraph ({types}) {{ {body} }}", **values))
    return [(node.op, macs) for node, macs in products(graph, infer(graph))]


@pytest.mark.parametrize(("types", "body", "shape", "macs"), CASES.values(), ids=CASES)
def test_counts(types, body, shape, macs):
    ((_, found),) = counted(types, body, w=weight(*shape))
    assert found == macs


def test_products_of_subgraphs_are_named_and_not_counted():
    body = """m = MatMul (x, w)  y = If (c) <
        then_branch = g1 () => (float[n, 4] a) { a = MatMul (m, w) },
        else_branch = g2 () => (float[n, 4] b) { b = Identity (m) }
    >"""
    assert counted("float[n, 4] x, bool c) => (float[n, 4] y", body, w=weight(4, 4)) == [
        ("MatMul", 16),
        ("MatMul", None),
    ]


def test_other_operators_are_no_products():
    assert counted("float[n, 4] x) => (float[n, 4] y", "y = Mul (x, w)", w=weight(4)) == []
