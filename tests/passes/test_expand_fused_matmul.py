import pytest

from qcompiler.errors import UnsupportedModelError
from qcompiler.passes.expand_fused_matmul import ExpandFusedMatmul

from .fused import fused_model
from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

TEXT = """agraph (float[n, 2, 4, 8] a, float[n, 2, 4, 8] b) => (float[n, 2, P, Q] y) {
    y = com.microsoft.FusedMatMul <ATTRS> (a, b)
}"""


def both(attrs="alpha = 0.25, transB = 1", size=4):
    return fused_model(TEXT.replace("ATTRS", attrs).replace("P", str(size)).replace("Q", str(size)))


def constant():
    text = "agraph (float[n, 4, 8] x) => (float[n, 4, 3] y) { y = com.microsoft.FusedMatMul <transB = 1> (x, w) }"
    return fused_model(text, w=weight(3, 8))


def test_golden():
    check_golden(
        ExpandFusedMatmul,
        both(),
        """
        a = input [n, 2, 4, 8]
        b = input [n, 2, 4, 8]
        %0 [n, 2, 8, 4] = Transpose(b; perm=[0, 1, 3, 2])  # FusedMatMul_0/Transpose
        %1 [n, 2, 4, 4] = MatMul(a, %0)  # FusedMatMul_0/MatMul
        %2 [n, 2, 4, 4] = Mul(%1, 0.25)  # FusedMatMul_0/Mul
        y = output %2
        """,
    )


def test_golden_constant_operand():
    graph, _ = applied(ExpandFusedMatmul, constant())
    assert [node.op for node in graph.nodes] == ["MatMul"]
    assert graph.nodes[0].inputs[1].shape == (8, 3)


def test_not_applicable():
    text = "agraph (float[n, 4, 8] x) => (float[n, 4, 3] y) { y = MatMul (x, w) }"
    check_unchanged(ExpandFusedMatmul, model_of(text, w=weight(8, 3)))


def test_idempotent():
    check_idempotent(ExpandFusedMatmul, both())


@pytest.mark.parametrize(
    ("attrs", "size"), [("alpha = 0.25, transB = 1", 4), ("transA = 1", 8), ("alpha = -3.0, transA = 1", 8)]
)
def test_numerical_oracle(attrs, size):
    check_equal(ExpandFusedMatmul, both(attrs, size), 1e-6, a=weight(2, 2, 4, 8), b=weight(2, 2, 4, 8, seed=1))


def test_numerical_oracle_constant_operand():
    check_equal(ExpandFusedMatmul, constant(), 1e-6, x=weight(2, 4, 8, seed=1))


def test_transposed_batches_are_refused():
    with pytest.raises(UnsupportedModelError, match="with transposed batch axes; export the model without"):
        applied(ExpandFusedMatmul, both("transBatchA = 1"))
