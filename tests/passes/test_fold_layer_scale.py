import pytest

from qcompiler.passes.fold_layer_scale import FoldLayerScale

from .helpers import check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

TEXT = "agraph (float[batch, 5, 4] x) => (float[batch, 5, 9] y) { BODY }"
BODIES = {
    "with bias": "m = MatMul (x, w)  l = Add (m, b)  y = Mul (l, g)",
    "factor first": "m = MatMul (x, w)  l = Add (m, b)  y = Mul (g, l)",
    "without bias": "m = MatMul (x, w)  y = Mul (m, g)",
}


def graph(body=BODIES["with bias"], factor=(9,)):
    constants = {"w": weight(4, 9), "b": weight(9, seed=1), "g": weight(*factor, seed=2)}
    return model_of(TEXT.replace("BODY", body), **constants)


def test_golden():
    check_golden(
        FoldLayerScale,
        graph(),
        """
        x = input [batch, 5, 4]
        %0 [batch, 5, 9] = MatMul(x, w/scaled:float32[4, 9])  # MatMul_0
        %1 [batch, 5, 9] = Add(%0, b/scaled:float32[9])  # Add_1
        y = output %1
        """,
    )


@pytest.mark.parametrize(
    ("body", "factor", "reason"),
    [
        (BODIES["with bias"], (5, 9), "not one per channel"),
        (BODIES["with bias"], (1,), "not one per channel"),
        ("m = MatMul (x, w)  l = Add (m, b)  r = Relu (l)  y = Mul (r, g)", (9,), None),
    ],
)
def test_not_applicable(body, factor, reason):
    check_unchanged(FoldLayerScale, graph(body, factor), reason=reason)


@pytest.mark.parametrize("case", BODIES)
def test_idempotent(case):
    check_idempotent(FoldLayerScale, graph(BODIES[case]))


@pytest.mark.parametrize("factor", [(9,), (1, 1, 9)])
@pytest.mark.parametrize("case", BODIES)
def test_numerical_oracle(case, factor):
    # 1e-6: the factor is applied before the sum instead of after it.
    check_equal(FoldLayerScale, graph(BODIES[case], factor), 1e-6, x=weight(3, 5, 4, seed=3))
