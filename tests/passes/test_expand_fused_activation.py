import pytest

from qcompiler.errors import UnsupportedModelError
from qcompiler.passes.expand_fused_activation import ExpandFusedActivation

from .fused import fused_model
from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

CONV = """agraph (float[n, 3, 8, 8] x, float[n, 4, 4, 4] z) => (float[n, 4, 4, 4] y) {
    y = com.microsoft.FusedConv <ATTRS, kernel_shape = [2, 2], strides = [2, 2]> (x, w, bINPUT)
}"""
GEMM = "agraph (float[n, 4] x) => (float[n, 3] y) { y = com.microsoft.FusedGemm <ATTRS, transB = 1> (x, w, b) }"


def conv(attrs='activation = "Relu"', more=""):
    text = CONV.replace("ATTRS", attrs).replace("INPUT", more)
    if not more:
        text = text.replace(", float[n, 4, 4, 4] z", "")
    return fused_model(text, 17, w=weight(4, 3, 2, 2), b=weight(4, seed=1))


def gemm(attrs):
    return fused_model(GEMM.replace("ATTRS", attrs), 17, w=weight(3, 4), b=weight(3, seed=1))


def test_golden():
    check_golden(
        ExpandFusedActivation,
        gemm('activation = "LeakyRelu", activation_alpha = 0.25, alpha = 2.0'),
        """
        x = input [n, 4]
        %0 [n, 3] = Gemm(x, w:float32[3, 4], [0.3455842, 0.8216181, 0.3304371]; alpha=2, transB=1)  # FusedGemm_0/Gemm
        %1 [n, 3] = LeakyRelu(%0; alpha=0.25)  # FusedGemm_0/LeakyRelu
        y = output %1
        """,
    )


def test_not_applicable():
    text = "agraph (float[n, 4] x) => (float[n, 3] y) { y = Gemm <transB = 1> (x, w) }"
    check_unchanged(ExpandFusedActivation, model_of(text, w=weight(3, 4)))


def test_idempotent():
    check_idempotent(ExpandFusedActivation, conv())


@pytest.mark.parametrize(
    "attrs",
    [
        'activation = "Relu"',
        'activation = "Tanh"',
        'activation = "LeakyRelu", activation_params = [0.25]',
        'activation = "HardSigmoid", activation_params = [0.3, 0.4]',
    ],
)
def test_numerical_oracle(attrs):
    check_equal(ExpandFusedActivation, conv(attrs), 2e-6, x=weight(2, 3, 8, 8, seed=2))


def test_numerical_oracle_sum():
    feeds = {"x": weight(2, 3, 8, 8, seed=2), "z": weight(2, 4, 4, 4, seed=3)}
    check_equal(ExpandFusedActivation, conv(more=", z"), 2e-6, **feeds)


@pytest.mark.parametrize(
    "attrs", ['activation = "Relu", alpha = 2.0', 'activation = "LeakyRelu", activation_alpha = 0.25, beta = 3.0']
)
def test_numerical_oracle_gemm(attrs):
    check_equal(ExpandFusedActivation, gemm(attrs), 2e-6, x=weight(2, 4, seed=2))


def test_other_activations_are_refused():
    with pytest.raises(UnsupportedModelError, match="'FusedConv' with the activation 'Clip'; export the model without"):
        applied(ExpandFusedActivation, conv('activation = "Clip", activation_params = [0.0, 6.0]'))
