import pytest

from qcompiler.passes.expand_fused_gelu import ExpandFusedGelu

from .fused import fused_model
from .helpers import check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

TEXT = "agraph (float[n, 4, 6] x) => (float[n, 4, 6] y) { y = com.microsoft.CALL }"
CALLS = [
    "Gelu (x)",
    "BiasGelu (x, b)",
    "FastGelu (x)",
    "FastGelu (x, b)",
    "QuickGelu (x)",
    "QuickGelu <alpha = 0.5> (x)",
]


def model(call, opset=17):
    return fused_model(TEXT.replace("CALL", call), opset, b=weight(6))


def test_golden():
    check_golden(
        ExpandFusedGelu,
        model("QuickGelu <alpha = 0.5> (x)"),
        """
        x = input [n, 4, 6]
        %0 [n, 4, 6] = Mul(x, 0.5)  # QuickGelu_0/Mul
        %1 [n, 4, 6] = Sigmoid(%0)  # QuickGelu_0/Sigmoid
        %2 [n, 4, 6] = Mul(x, %1)  # QuickGelu_0/Mul_1
        y = output %2
        """,
    )


def test_golden_bias():
    check_golden(
        ExpandFusedGelu,
        model("BiasGelu (x, b)"),
        f"""
        x = input [n, 4, 6]
        %0 [n, 4, 6] = Add(x, [{", ".join(f"{value:.7g}" for value in weight(6).tolist())}])  # BiasGelu_0/Add
        %1 [n, 4, 6] = Div(%0, 1.414214)  # BiasGelu_0/Div
        %2 [n, 4, 6] = Erf(%1)  # BiasGelu_0/Erf
        %3 [n, 4, 6] = Add(%2, 1)  # BiasGelu_0/Add_1
        %4 [n, 4, 6] = Mul(%0, %3)  # BiasGelu_0/Mul
        %5 [n, 4, 6] = Mul(%4, 0.5)  # BiasGelu_0/Mul_1
        y = output %5
        """,
    )


def test_not_applicable():
    check_unchanged(ExpandFusedGelu, model_of("agraph (float[n, 4] x) => (float[n, 4] y) { y = Gelu (x) }"))


@pytest.mark.parametrize("call", CALLS)
def test_idempotent(call):
    check_idempotent(ExpandFusedGelu, model(call))


@pytest.mark.parametrize("opset", [13, 21])
@pytest.mark.parametrize("call", CALLS)
def test_numerical_oracle(call, opset):
    # ONNX Runtime approximates Erf and Tanh by polynomials.
    check_equal(ExpandFusedGelu, model(call, opset), 2e-6, x=weight(2, 4, 6, seed=1, scale=3.0))
