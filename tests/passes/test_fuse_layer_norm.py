import numpy as np
import pytest

from qcompiler.passes.fuse_layer_norm import FuseLayerNorm

from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

HEAD = """agraph (float[batch, 4, 6] x) => (float[batch, 4, 6] y) {
    m = ReduceMean <keepdims = 1> (x, axis)  d = Sub (x, m)
"""
SPELLINGS = {
    "pow and div": "q = Pow (d, two)  v = ReduceMean (q, axis)  e = Add (v, eps)  s = Sqrt (e)  n = Div (d, s)",
    "mul and reciprocal": """q = Mul (d, d)  v = ReduceMean (q, axis)  e = Add (eps, v)  s = Sqrt (e)
        r = Reciprocal (s)  n = Mul (d, r)""",
    "inverse": """q = Mul (d, d)  v = ReduceMean (q, axis)  e = Add (v, eps)  s = Sqrt (e)
        r = Div (one, s)  n = Mul (r, d)""",
    "two differences": """f = Sub (x, m)  q = Pow (f, two)  v = ReduceMean (q, axis)  e = Add (v, eps)  s = Sqrt (e)
        n = Div (d, s)""",
}
TAILS = {
    "affine": "g = Mul (n, gamma)  y = Add (g, beta)",
    "affine, constants first": "g = Mul (gamma, n)  y = Add (beta, g)",
    "scale only": "y = Mul (n, gamma)",
    "none": "y = Identity (n)",
}


def graph(spelling="pow and div", tail="affine", axis=-1):
    body = HEAD + SPELLINGS[spelling] + "\n" + TAILS[tail] + "}"
    values = {
        "axis": np.array([axis]),
        "two": np.array(2.0, np.float32),
        "one": np.array(1.0, np.float32),
        "eps": np.array(1e-5, np.float32),
        "gamma": weight(6, seed=1),
        "beta": weight(6, seed=2),
    }
    return model_of(body, **values)


def test_golden():
    check_golden(
        FuseLayerNorm,
        graph(),
        """
        x = input [batch, 4, 6]
        %0 [batch, 4, 6] = LayerNormalization(x, GAMMA, BETA; axis=-1, epsilon=1e-05)  # Sqrt_5/LayerNormalization
        y = output %0
        """.replace("GAMMA", values_text(weight(6, seed=1))).replace("BETA", values_text(weight(6, seed=2))),
    )


def values_text(values):
    return f"[{', '.join(f'{value:.7g}' for value in values.tolist())}]"


def test_not_applicable():
    check_unchanged(FuseLayerNorm, graph(axis=1), reason="over the last axis")
    text = "agraph (float[batch, 4] x) => (float[batch, 4] y) { y = Sqrt (x) }"
    check_unchanged(FuseLayerNorm, model_of(text), reason="not the standard deviation")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_idempotent(spelling):
    check_idempotent(FuseLayerNorm, graph(spelling))


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_numerical_oracle(spelling, tail):
    # 2e-6: mean and variance of six float32 numbers, summed in another order.
    check_equal(FuseLayerNorm, graph(spelling, tail), 2e-6, x=weight(5, 4, 6, seed=3))


def test_missing_beta_becomes_zeros():
    text = "agraph (float[batch, 4, 6] x) => (float[batch, 4, 6] y) { y = LayerNormalization (x, gamma) }"
    model = model_of(text, gamma=weight(6))
    graph_, _ = applied(FuseLayerNorm, model)
    assert graph_.nodes[0].inputs[2].values.tolist() == [0.0] * 6
    check_equal(FuseLayerNorm, model, 0.0, x=weight(5, 4, 6))
