import pytest

from qcompiler.passes.restore_tokens import RestoreTokens

from .helpers import check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

TEXT = """agraph (float[n, 5, AXES] x) => (OUTPUTS) {
    r = Reshape (x, rows)  m = MatMul (r, w)  a = Add (m, b)  LAST
}"""


def model(last="y = Reshape (a, tokens)", outputs="float[n, 5, 3] y", tokens=(-1, 5, 3), axes="4"):
    values = {"rows": [-1, 4], "tokens": tokens}
    return model_of(
        TEXT.replace("LAST", last).replace("OUTPUTS", outputs).replace("AXES", axes),
        w=weight(4, 3),
        b=weight(3, seed=1),
        **values,
    )


SHARED = {"last": "y = Reshape (a, tokens)  z = Relu (r)", "outputs": "float[n, 5, 3] y, float[m, 4] z"}
HEADS = {"outputs": "float[n, 5, 1, 3] y", "tokens": (-1, 5, 1, 3), "axes": "2, 2"}


def test_golden():
    check_golden(
        RestoreTokens,
        model("t = Reshape (a, tokens)  y = Relu (t)"),
        """
        x = input [n, 5, 4]
        %0 [n, 5, 3] = MatMul(x, w:float32[4, 3])  # MatMul_1
        %1 [n, 5, 3] = Add(%0, [0.3455842, 0.8216181, 0.3304371])  # Add_2
        %2 [n, 5, 3] = Reshape(%1, [0, 5, 3])  # Reshape_3
        %3 [n, 5, 3] = Relu(%2)  # Relu_4
        y = output %3
        """,
    )


def test_golden_heads():
    check_golden(
        RestoreTokens,
        model(**HEADS),
        """
        x = input [n, 5, 2, 2]
        %0 [n, 5, 4] = Reshape(x, [0, 5, 4])  # Reshape_0/tokens
        %1 [n, 5, 3] = MatMul(%0, w:float32[4, 3])  # MatMul_1
        %2 [n, 5, 3] = Add(%1, [0.3455842, 0.8216181, 0.3304371])  # Add_2
        %3 [n, 5, 1, 3] = Reshape(%2, [0, 5, 1, 3])  # Reshape_3
        y = output %3
        """,
    )


def test_not_applicable():
    both = "y = Reshape (a, tokens)  z = Relu (a)"
    check_unchanged(RestoreTokens, model(both, "float[n, 5, 3] y, float[m, 3] z"))
    check_unchanged(RestoreTokens, model(outputs="float[n, 3, 5] y", tokens=(-1, 3, 5)))
    check_unchanged(RestoreTokens, model("y = Relu (a)", "float[m, 3] y"))


@pytest.mark.parametrize("options", [{}, SHARED, HEADS], ids=["alone", "shared", "heads"])
def test_idempotent(options):
    check_idempotent(RestoreTokens, model(**options))


@pytest.mark.parametrize("options", [{}, SHARED, HEADS], ids=["alone", "shared", "heads"])
def test_numerical_oracle(options):
    check_equal(
        RestoreTokens, model(**options), 1e-6, x=weight(2, 5, *map(int, options.get("axes", "4").split(",")), seed=2)
    )
