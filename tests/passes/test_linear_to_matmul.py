import numpy as np
import pytest

from qcompiler.passes.linear_to_matmul import LinearToMatmul

from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

GEMM = "agraph (float[batch, 4] x) => (float[batch, 3] y) { y = Gemm <ATTRS> (x, w, b) }"
TOKENS = "agraph (float[batch, 5, 4] x) => (float[batch, 5, 3] y) { m = MatMul (x, w)  y = LAST }"


def gemm(attrs="transB = 1", rows=3, columns=4, bias=(3,)):
    return model_of(GEMM.replace("ATTRS", attrs), w=weight(rows, columns), b=weight(*bias, seed=1))


def tokens(last, bias=(3,)):
    return model_of(TOKENS.replace("LAST", last), w=weight(4, 3), b=weight(*bias, seed=1))


def test_golden():
    check_golden(
        LinearToMatmul,
        model_of(GEMM.replace("ATTRS", "transB = 1"), w=weight(3, 4), b=np.array([[1, 2, 3]], np.float32)),
        """
        x = input [batch, 4]
        %0 [batch, 3] = MatMul(x, w/transposed:float32[4, 3])  # Gemm_0/MatMul
        %1 [batch, 3] = Add(%0, [1, 2, 3])  # Gemm_0/Add
        y = output %1
        """,
    )


def test_golden_order_of_the_bias():
    graph, _ = applied(LinearToMatmul, tokens("Add (b, m)", bias=(1, 1, 3)))
    assert [node.op for node in graph.nodes] == ["MatMul", "Add"]
    assert graph.nodes[1].inputs[0] is graph.nodes[0].outputs[0]
    assert graph.nodes[1].inputs[1].shape == (3,)


def test_not_applicable():
    check_unchanged(LinearToMatmul, tokens("Add (m, b)"))
    check_unchanged(LinearToMatmul, tokens("Add (m, b)", bias=(5, 3)), reason="differs between tokens")
    text = "agraph (float[batch, 4] x, float[4, 3] w) => (float[batch, 3] y) { y = Gemm (x, w, b) }"
    check_unchanged(LinearToMatmul, model_of(text, b=weight(3)), reason="not constant")


@pytest.mark.parametrize("model", [gemm(), tokens("Add (b, m)"), tokens("Sub (m, b)")])
def test_idempotent(model):
    check_idempotent(LinearToMatmul, model)


@pytest.mark.parametrize(
    "model",
    [
        gemm(),
        gemm("alpha = 0.5, beta = 2.0, transB = 1"),
        gemm("alpha = 1.0", rows=4, columns=3),
        gemm(bias=(1,)),
        tokens("Add (b, m)"),
        tokens("Add (b, m)", bias=(1, 1, 3)),
        tokens("Add (b, m)", bias=(1,)),
        tokens("Sub (m, b)"),
    ],
)
def test_numerical_oracle(model):
    rank = len(model.graph.input[0].type.tensor_type.shape.dim)
    x = weight(2, 4, seed=2) if rank == 2 else weight(2, 5, 4, seed=2)
    check_equal(LinearToMatmul, model, 1e-6, x=x)  # the factor alpha is applied before the sum instead of after it


def test_transposed_input():
    text = "agraph (float[4, 2] x) => (float[2, 3] y) { y = Gemm <transA = 1> (x, w) }"
    check_equal(LinearToMatmul, model_of(text, w=weight(4, 3)), 1e-6, x=weight(4, 2))
