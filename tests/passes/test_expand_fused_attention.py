import pytest

from qcompiler.errors import UnsupportedModelError
from qcompiler.passes.expand_fused_attention import ExpandFusedAttention

from .fused import fused_model
from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

PACKED = """agraph (float[n, 5, 8] x) => (float[n, 5, 8] y) {
    y = com.microsoft.Attention <num_heads = 2ATTRS> (x, w, bMORE)
}"""
THREE = """agraph (float[n, 5, 8] q, float[n, 7, 8] k, float[n, 7, 8] v) => (float[n, 5, 8] y) {
    y = com.microsoft.MultiHeadAttention <num_heads = 2ATTRS> (q, k, vMORE)
}"""


def model(text, attrs="", more=""):
    constants = {"w": weight(8, 24), "b": weight(24, seed=1), "bias": weight(1, 2, 5, 5), "cross": weight(1, 2, 5, 7)}
    return fused_model(text.replace("ATTRS", attrs).replace("MORE", more), 17, **constants)


def test_golden():
    check_golden(
        ExpandFusedAttention,
        model(PACKED),
        """
        x = input [n, 5, 8]
        %0 [n, 5, 24] = MatMul(x, w:float32[8, 24])  # Attention_0/qkv/MatMul
        %1 [n, 5, 24] = Add(%0, b:float32[24])  # Attention_0/qkv/Add
        %2 [n, 5, 8], %3 [n, 5, 8], %4 [n, 5, 8] = Split(%1, [8, 8, 8]; axis=-1)  # Attention_0/Split
        %5 [n, 5, 2, 4] = Reshape(%2, [0, 0, 2, 4])  # Attention_0/q/Reshape
        %6 [n, 5, 2, 4] = Reshape(%3, [0, 0, 2, 4])  # Attention_0/k/Reshape
        %7 [n, 5, 2, 4] = Reshape(%4, [0, 0, 2, 4])  # Attention_0/v/Reshape
        %8 [n, 2, 5, 4] = Transpose(%5; perm=[0, 2, 1, 3])  # Attention_0/q/Transpose
        %9 [n, 2, 4, 5] = Transpose(%6; perm=[0, 2, 3, 1])  # Attention_0/k/Transpose
        %10 [n, 2, 5, 4] = Transpose(%7; perm=[0, 2, 1, 3])  # Attention_0/v/Transpose
        %11 [n, 2, 5, 5] = MatMul(%8, %9)  # Attention_0/scores/MatMul
        %12 [n, 2, 5, 5] = Mul(%11, 0.5)  # Attention_0/Mul
        %13 [n, 2, 5, 5] = Softmax(%12; axis=-1)  # Attention_0/Softmax
        %14 [n, 2, 5, 4] = MatMul(%13, %10)  # Attention_0/MatMul
        %15 [n, 5, 2, 4] = Transpose(%14; perm=[0, 2, 1, 3])  # Attention_0/Transpose
        %16 [n, 5, 8] = Reshape(%15, [0, 0, 8])  # Attention_0/Reshape
        y = output %16
        """,
    )


def test_not_applicable():
    text = """agraph (float[n, 2, 5, 4] q, float[n, 2, 5, 4] k, float[n, 2, 5, 4] v) => (float[n, 2, 5, 4] y) {
        y = Attention (q, k, v)
    }"""
    check_unchanged(ExpandFusedAttention, model_of(text, opset=23))


@pytest.mark.parametrize("text", [PACKED, THREE])
def test_idempotent(text):
    check_idempotent(ExpandFusedAttention, model(text))


@pytest.mark.parametrize(("attrs", "more"), [("", ""), (", scale = 0.125", ""), ("", ", , , bias")])
def test_numerical_oracle(attrs, more):
    check_equal(ExpandFusedAttention, model(PACKED, attrs, more), 2e-6, x=weight(2, 5, 8, seed=2))


@pytest.mark.parametrize(("attrs", "more"), [("", ""), (", scale = 0.125", ", b"), ("", ", , , cross")])
def test_numerical_oracle_three_tensors(attrs, more):
    feeds = {"q": weight(2, 5, 8, seed=2), "k": weight(2, 7, 8, seed=3), "v": weight(2, 7, 8, seed=4)}
    check_equal(ExpandFusedAttention, model(THREE, attrs, more), 2e-6, **feeds)


@pytest.mark.parametrize(
    ("text", "attrs", "more", "reason"),
    [
        (PACKED, ", unidirectional = 1", "", "that is causal"),
        (PACKED, "", ", mask", "with a mask"),
        (PACKED, ", qkv_hidden_sizes = [8, 8, 16]", "", "widths of its own"),
        (THREE, "", ", , mask", "with a mask"),
    ],
)
def test_what_cannot_be_expanded_is_refused(text, attrs, more, reason):
    made = model(text, attrs, more)
    with pytest.raises(UnsupportedModelError, match=f"{reason}.*; export the model without ONNX Runtime optimisation"):
        applied(ExpandFusedAttention, made)
