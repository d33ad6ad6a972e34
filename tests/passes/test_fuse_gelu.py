import numpy as np
import pytest

from qcompiler.passes.fuse_gelu import FuseGelu

from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

HEAD = "agraph (float[batch, 4] x) => (float[batch, 4] y) {"
EXACT = {
    "torch": "a = Div (x, sqrt2)  b = Erf (a)  c = Add (b, one)  d = Mul (x, c)  y = Mul (d, half)",
    "half first": "a = Mul (x, rsqrt2)  b = Erf (a)  c = Add (one, b)  d = Mul (half, x)  y = Mul (c, d)",
    "half inside": "a = Div (x, sqrt2)  b = Erf (a)  h = Mul (b, half)  c = Add (h, half)  y = Mul (x, c)",
    "halved by division": "a = Div (x, sqrt2)  b = Erf (a)  c = Add (b, one)  d = Mul (c, x)  y = Div (d, two)",
}
TANH = {
    "cube": """p = Pow (x, three)  a = Mul (p, k)  b = Add (x, a)  c = Mul (b, s)  t = Tanh (c)
        d = Add (t, one)  h = Mul (x, half)  y = Mul (h, d)""",
    "products": """q = Mul (x, x)  p = Mul (x, q)  a = Mul (k, p)  b = Add (x, a)  c = Mul (b, s)  t = Tanh (c)
        d = Add (one, t)  h = Mul (x, d)  y = Mul (half, h)""",
    "factored": """q = Mul (x, x)  a = Mul (q, k)  b = Add (a, one)  z = Mul (x, s)  c = Mul (z, b)  t = Tanh (c)
        d = Add (t, one)  h = Mul (x, half)  y = Mul (h, d)""",
}
OTHER = {
    "another function": "a = Erf (x)  b = Add (a, one)  c = Mul (x, b)  y = Mul (c, half)",
    "plain tanh": "t = Tanh (x)  y = Mul (t, x)",
    "shifted": "a = Div (x, sqrt2)  b = Erf (a)  c = Add (b, half)  d = Mul (x, c)  y = Mul (d, half)",
}


def graph(body, outputs=""):
    values = {
        "sqrt2": 1.4142135381698608,
        "rsqrt2": 0.7071067690849304,
        "one": 1.0,
        "two": 2.0,
        "three": 3.0,
        "half": 0.5,
        "k": 0.044715,
        "s": 0.7978845608,
    }
    constants = {name: np.array(value, np.float32) for name, value in values.items()}
    return model_of(HEAD.replace("y)", f"y{outputs})") + body + "}", **constants)


@pytest.mark.parametrize(("body", "kind"), [(EXACT["torch"], "none"), (TANH["cube"], "tanh")])
def test_golden(body, kind):
    last = graph(body).graph.node[2 if kind == "none" else 4].op_type
    anchor = {"Add": "Erf_1", "Tanh": "Tanh_4"}[last]
    check_golden(
        FuseGelu,
        graph(body),
        f"""
        x = input [batch, 4]
        %0 [batch, 4] = Gelu(x; approximate={kind})  # {anchor}/Gelu
        y = output %0
        """,
    )


@pytest.mark.parametrize("case", OTHER)
def test_not_applicable(case):
    check_unchanged(FuseGelu, graph(OTHER[case]), reason="not part of a GELU")


def test_inner_result_with_another_reader():
    check_unchanged(FuseGelu, graph(EXACT["torch"], outputs=", float[batch, 4] c"), reason="read nowhere else")


@pytest.mark.parametrize("case", [*EXACT, *TANH])
def test_idempotent(case):
    check_idempotent(FuseGelu, graph((EXACT | TANH)[case]))


@pytest.mark.parametrize("case", [*EXACT, *TANH])
def test_numerical_oracle(case):
    # 1e-6: both sides evaluate erf or tanh in float32, with constants rounded to float32.
    check_equal(FuseGelu, graph((EXACT | TANH)[case]), 1e-6, x=weight(64, 4, scale=3.0))


@pytest.mark.parametrize("case", TANH)
def test_tanh_is_told_from_erf(case):
    graph_, _ = applied(FuseGelu, graph(TANH[case]))
    assert [node.attrs["approximate"] for node in graph_.nodes] == ["tanh"]
