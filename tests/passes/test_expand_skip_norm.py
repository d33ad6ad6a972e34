import pytest

from qcompiler.errors import UnsupportedModelError
from qcompiler.passes.expand_skip_norm import ExpandSkipNorm

from .fused import fused_model
from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

ONE = """agraph (float[n, 4, 9] x, float[n, 4, 9] s) => (float[n, 4, 9] y) {
    y = com.microsoft.SkipLayerNormalization CALL
}"""
SUM = """agraph (float[n, 4, 9] x, float[n, 4, 9] s) => (float[n, 4, 9] y, float[n, 4, 9] z) {
    y, m, v, t = com.microsoft.SkipLayerNormalization <epsilon = 0.001> (x, s, g, b, c)  z = Relu (t)
}"""
MEAN = """agraph (float[n, 4, 9] x, float[n, 4, 9] s) => (float[n, 4, 9] y, float[n, 4, 1] m) {
    y, m = com.microsoft.SkipLayerNormalization (x, s, g, b)
}"""
CALLS = ["<epsilon = 0.001> (x, s, g, b, c)", "(x, s, g, b)", "<epsilon = 0.5> (x, s, g)"]


def model(text, opset=17):
    return fused_model(text, opset, g=weight(9), b=weight(9, seed=1), c=weight(9, seed=2))


def test_golden():
    check_golden(
        ExpandSkipNorm,
        model(SUM),
        """
        x = input [n, 4, 9]
        s = input [n, 4, 9]
        %0 [n, 4, 9] = Add(x, s)  # SkipLayerNormalization_0/Add
        %1 [n, 4, 9] = Add(%0, c:float32[9])  # SkipLayerNormalization_0/Add_1
        %2 [n, 4, 9] = Relu(%1)  # Relu_1
        %3 [n, 4, 9] = LayerNormalization(%1, g:float32[9], b:float32[9]; axis=-1, epsilon=0.001)  # \
SkipLayerNormalization_0/LayerNormalization
        y = output %3
        z = output %2
        """,
    )


def test_not_applicable():
    text = "agraph (float[n, 4, 9] x) => (float[n, 4, 9] y) { y = LayerNormalization (x, g) }"
    check_unchanged(ExpandSkipNorm, model_of(text, g=weight(9)))


def test_idempotent():
    check_idempotent(ExpandSkipNorm, model(SUM))


@pytest.mark.parametrize("text", [*(ONE.replace("CALL", call) for call in CALLS), SUM])
def test_numerical_oracle(text):
    check_equal(ExpandSkipNorm, model(text), 2e-6, x=weight(2, 4, 9, seed=3), s=weight(2, 4, 9, seed=4))


def test_what_cannot_be_expanded_is_refused():
    with pytest.raises(UnsupportedModelError, match="'SkipLayerNormalization' whose mean or variance is read"):
        applied(ExpandSkipNorm, model(MEAN))
    with pytest.raises(UnsupportedModelError, match="in a model of opset 13; export the model without"):
        applied(ExpandSkipNorm, model(SUM, opset=13))
