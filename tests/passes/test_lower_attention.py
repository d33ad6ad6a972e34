import numpy as np
import pytest

from qcompiler.passes.lower_attention import LowerAttention
from qcompiler.quant.levels import uniform_levels

from ..runtime_ops import reference
from .helpers import applied, check_golden, check_idempotent, check_unchanged, run, weight
from .quantized import (
    CODEBOOK,
    CODEBOOK_PROBABILITIES,
    F32,
    PROBABILITIES,
    SYMMETRIC,
    check_near,
    outputs_after,
    quantized_model,
    with_bodies,
)

HEADS, DIM, TOKENS = 2, 3, 4
HEAD = f"agraph (float[8, {TOKENS}, 18] x) => (float[8, {TOKENS}, 6] y)"


def quantizer(x, result, table, axis, bits=4, levels=""):
    pick = f"{x}w = Cast <to = 7> ({x}c)  {x}g = Gather ({levels}, {x}w)" if levels else ""
    return f"""{x}i = qcompiler.GroupSort <axis = {axis}> ({x}, {table})
        {x}c = qcompiler.GroupQuantizeLinear <bits = {bits}> ({x}, {x}i, {table}) {pick}
        {result} = qcompiler.GroupDequantizeLinear ({x + "g" if levels else x + "c"}, {x}i, {table})"""


SPLIT = "q1, k1, v1 = Split <axis = -1, num_outputs = 3> (x)"
HEADS_APART = """q2 = Reshape (q1, heads)  k2 = Reshape (k1, heads)  v2 = Reshape (v1, heads)
    q = Transpose <perm = [0, 2, 1, 3]> (q2)  k = Transpose <perm = [0, 2, 3, 1]> (k2)
    v = Transpose <perm = [0, 2, 1, 3]> (v2)"""
QKV = f"""{quantizer("q", "qr", "q_groups", -2)} {quantizer("k", "kr", "k_groups", -1)}
    {quantizer("v", "vr", "v_groups", -1)} s = MatMul (qr, kr)"""
JOIN = "o = Transpose <perm = [0, 2, 1, 3]> (a)  y = Reshape (o, joined)"
MASKS = {  # name: from the scores s to the logits l, and the bias
    "no bias": ("l = Mul (s, scale)", None),
    "bias": ("z = Mul (s, scale)  l = Add (z, bias)", weight(1, HEADS, TOKENS, TOKENS, seed=5)),
    "bias of rank 2": ("z = Mul (s, scale)  l = Add (z, bias)", weight(TOKENS, TOKENS, seed=6)),
    "windows": (
        "z = Mul (s, scale)  u = Reshape (z, unfold)  m = Add (u, bias)  l = Reshape (m, fold)",
        weight(4, HEADS, TOKENS, TOKENS, seed=7),
    ),
    "windows of rank 5, shared by heads": (
        "z = Mul (s, scale)  u = Reshape (z, unfold)  m = Add (u, bias)  l = Reshape (m, fold)",
        weight(1, 4, 1, TOKENS, TOKENS, seed=8),
    ),
}


def body(mask="no bias", codebook=False, join=JOIN, split=SPLIT, qkv=QKV):
    bits, levels = (7, "levels") if codebook else (4, "")
    return f"""{split} {HEADS_APART} {qkv} {MASKS[mask][0]}  p = Softmax <axis = -1> (l)
        {quantizer("p", "pr", "p_groups", -2, bits, levels)}  a = MatMul (pr, vr)  {join}"""


def model(mask="no bias", codebook=False, text=None, head=HEAD):
    used = {
        "heads": np.array([0, 0, HEADS, DIM]),
        "joined": np.array([0, 0, HEADS * DIM]),
        "unfold": np.array([-1, 4, HEADS, TOKENS, TOKENS]),
        "fold": np.array([-1, HEADS, TOKENS, TOKENS]),
        "scale": np.array(0.5, F32),
        "bias": MASKS[mask][1],
        "levels": CODEBOOK,
        **{f"{name}_groups": SYMMETRIC for name in "qkv"},
        "p_groups": CODEBOOK_PROBABILITIES if codebook else PROBABILITIES,
    }
    text = text or body(mask, codebook)
    # "unfold)" also ends in "fold)": names stand behind a blank or a parenthesis.
    constants = {n: v for n, v in used.items() if any(f"{mark}{n}{end}" in text for mark in " (" for end in "),")}
    made = quantized_model(f"{head} {{ {text} }}", **constants)
    for node in made.graph.node:
        if node.op_type == "Softmax":
            node.name = "blocks.0.attn/Softmax"
    return made


def test_golden():
    """Case 1: uniform levels are written out."""
    check_golden(
        LowerAttention,
        model(),
        """
        x = input [8, 4, 18]
        %0 [8, 4, 6] = qcompiler.GroupAttention(x, q_groups:float32[2, 6], k_groups:float32[2, 6], v_groups:float32[2, 6], p_groups:float32[2, 6], blocks.0.attn.levels:uint8[16]; bits=4, num_heads=2, scale=0.5)  # blocks.0.attn
        y = output %0
        """,  # noqa: E501
    )


@pytest.mark.parametrize(
    ("mask", "shape"),
    [
        ("bias", "[1, 2, 4, 4]"),
        ("bias of rank 2", "[1, 1, 4, 4]"),
        ("windows", "[4, 2, 4, 4]"),
        ("windows of rank 5, shared by heads", "[4, 1, 4, 4]"),
    ],
)
def test_golden_bias(mask, shape):
    """Case 2: the bias gets rank 4; the reshapes to windows are gone."""
    check_golden(
        LowerAttention,
        model(mask, codebook=True),
        f"""
        x = input [8, 4, 18]
        %0 [8, 4, 6] = qcompiler.GroupAttentionBias(x, q_groups:float32[2, 6], k_groups:float32[2, 6], v_groups:float32[2, 6], p_groups:float32[2, 6], levels:uint8[128], blocks.0.attn.bias:float32{shape}; bits=4, num_heads=2, scale=0.5)  # blocks.0.attn
        y = output %0
        """,  # noqa: E501
    )


NO_PROBABILITIES = body().replace(quantizer("p", "pr", "p_groups", -2), "").replace("MatMul (pr, vr)", "MatMul (p, vr)")
REFUSED = {
    "probabilities not quantized": (NO_PROBABILITIES, "does not go through a group quantizer into a product"),
    "no scale": (body().replace("l = Mul (s, scale)", "l = Reshape (s, fold)"), "no quantized product with a scale"),
    "a computed mask": (
        body().replace("l = Mul (s, scale)", "z = Mul (s, scale)  e = Tanh (z)  l = Add (z, e)"),
        "no quantized product with a scale",
    ),
    "a step between": (
        body().replace("l = Mul (s, scale)", "z = Mul (s, scale)  l = Tanh (z)"),
        "no quantized product with a scale",
    ),
    "query not quantized": (
        body(qkv=QKV.replace("MatMul (qr, kr)", "MatMul (q, kr)")),
        "not read from one packed tensor",
    ),
    "keys and queries swapped": (
        body(split="k1, q1, v1 = Split <axis = -1, num_outputs = 3> (x)"),
        "not read from one packed tensor",
    ),
    "not packed": (body(split="q1 = Relu (x3)  k1 = Tanh (x3)  v1 = Abs (x3)"), "not read from one packed tensor"),
    "heads stay apart": (body(join="y = Relu (a)"), "not read from one packed tensor"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_not_applicable(case):
    """Case 3."""
    text, reason = REFUSED[case]
    head = HEAD.replace("18] x", "6] x3") if case == "not packed" else HEAD
    head = head.replace("[8, 4, 6] y", "[8, 2, 4, 3] y") if case == "heads stay apart" else head
    check_unchanged(LowerAttention, model(text=text, head=head), reason=f"^blocks.0.attn/Softmax: .*{reason}")


def test_not_applicable_to_float_blocks():
    text = "p = Softmax <axis = -1> (x)  y = Relu (p)"
    head = "agraph (float[8, 4, 4] x) => (float[8, 4, 4] y)"
    check_unchanged(LowerAttention, model(text=text, head=head), reason="its output does not go through")


def test_bits_are_those_of_the_queries():
    """The codebook's 7-bit index is no width of q, k and v."""
    graph, _ = applied(LowerAttention, model(codebook=True))
    assert graph.nodes[0].attrs["bits"] == 4


@pytest.mark.parametrize("mask", MASKS)
def test_idempotent(mask):
    check_idempotent(LowerAttention, model(mask))


@pytest.mark.parametrize("codebook", [False, True], ids=["uniform", "codebook"])
@pytest.mark.parametrize("mask", MASKS)
def test_numerical_oracle(mask, codebook):
    """The fused operator and the readable nodes against the definition; row b of the batch takes window b % 4."""
    x = weight(8, TOKENS, 18, seed=1)
    bias = MASKS[mask][1]
    if bias is not None:
        bias = bias.reshape(*((1,) * (4 - bias.ndim)), *bias.shape[-4:])
    (fused,) = outputs_after(LowerAttention, model(mask, codebook), x=x)
    (readable,) = run(with_bodies(model(mask, codebook)), {"x": x})
    expected, slack = reference.attention(
        x,
        SYMMETRIC,
        SYMMETRIC,
        SYMMETRIC,
        CODEBOOK_PROBABILITIES if codebook else PROBABILITIES,
        CODEBOOK if codebook else uniform_levels(4),
        bias,
        num_heads=HEADS,
        scale=0.5,
        bits=4,
    )
    check_near(fused, expected, slack, 1e-6)  # the runtime's softmax
    check_near(readable, expected, slack, 2e-6)  # and float products of read-back values
