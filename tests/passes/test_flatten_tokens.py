import pytest

from qcompiler.passes.flatten_tokens import FlattenTokens

from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

TEXT = "agraph (float[batch, 2, 3, 4] x) => (float[batch, 2, 3, 9] y) { BODY }"
BODIES = {
    "linear": "m = MatMul (x, w)  y = Add (m, b)",
    "no bias": "y = MatMul (x, w)",
    "behind a norm": "n = LayerNormalization <axis = -1> (x, gamma, beta)  m = MatMul (n, w)  y = Add (m, b)",
    "norm read twice": """n = LayerNormalization <axis = -1> (x, gamma, beta)  m = MatMul (n, w)  k = MatMul (n, w)
        l = Add (m, b)  y = Add (l, k)""",
}


TOKENS_FIRST = """agraph (float[batch, 3, 4] images) => (float[3, batch, 9] y) {
    x = Transpose <perm = [1, 0, 2]> (images)  BODY }"""


def graph(case="linear", text=TEXT):
    constants = {"w": weight(4, 9), "b": weight(9, seed=1), "gamma": weight(4, seed=2), "beta": weight(4, seed=3)}
    return model_of(text.replace("BODY", BODIES[case]), **constants)


def test_golden():
    check_golden(
        FlattenTokens,
        graph(),
        """
        x = input [batch, 2, 3, 4]
        %0 [batch, 6, 4] = Reshape(x, [0, 6, 4])  # MatMul_0/Reshape
        %1 [batch, 6, 9] = MatMul(%0, w:float32[4, 9])  # MatMul_0
        %2 [batch, 6, 9] = Add(%1, b:float32[9])  # Add_1
        %3 [batch, 2, 3, 9] = Reshape(%2, [0, 2, 3, 9])  # MatMul_0/Reshape_1
        y = output %3
        """,
    )


def test_golden_before_a_norm():
    graph_, _ = applied(FlattenTokens, graph("behind a norm"))
    assert [node.op for node in graph_.nodes] == ["Reshape", "LayerNormalization", "MatMul", "Add", "Reshape"]


@pytest.mark.parametrize("axes", ["batch, 6", "batch"])
def test_not_applicable(axes):
    check_unchanged(FlattenTokens, graph(text=TEXT.replace("batch, 2, 3", axes)))


@pytest.mark.parametrize("case", BODIES)
def test_idempotent(case):
    check_idempotent(FlattenTokens, graph(case))


@pytest.mark.parametrize("batch", ["batch", "2"])
@pytest.mark.parametrize("case", BODIES)
def test_numerical_oracle(case, batch):
    # 1e-6: the runtime may block the same sums differently.
    model = graph(case, TEXT.replace("batch", batch))
    check_equal(FlattenTokens, model, 1e-6, x=weight(3 if batch == "batch" else 2, 2, 3, 4, seed=4))


@pytest.mark.parametrize("case", ["linear", "no bias"])
def test_tokens_in_front_of_the_batch(case):
    model = graph(case, TOKENS_FIRST)
    graph_, _ = applied(FlattenTokens, model)
    bias = ["Add"] * (case == "linear")
    assert [node.op for node in graph_.nodes] == ["Transpose", "Transpose", "MatMul", *bias, "Transpose"]
    check_idempotent(FlattenTokens, model)
    check_equal(FlattenTokens, model, 1e-6, images=weight(2, 3, 4, seed=4))  # 1e-6: as above
