from dataclasses import replace

import numpy as np
import pytest

from qcompiler.errors import VerificationError
from qcompiler.passes.quantize_attention import QuantizeAttention
from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.levels import uniform_levels
from qcompiler.quant.plan import AttentionPlan, BlockAttentionPlan

from ..runtime_ops import blocks, reference
from .helpers import applied, check_golden, check_idempotent, check_unchanged, model_of, text_of, weight
from .quantized import (
    CODEBOOK,
    CODEBOOK_PROBABILITIES,
    F32,
    PROBABILITIES,
    SYMMETRIC,
    check_near,
    outputs_after,
    table,
)

HEADS, DIM, TOKENS, WINDOWS = 2, 3, 4, 2
INTS = {
    "heads": [0, 0, HEADS, DIM],
    "joined": [0, 0, HEADS * DIM],
    "unfold": [-1, WINDOWS, HEADS, TOKENS, TOKENS],
    "fold": [-1, HEADS, TOKENS, TOKENS],
}
BIAS = weight(1, HEADS, TOKENS, TOKENS, seed=5)
WINDOW_BIAS = weight(WINDOWS, HEADS, TOKENS, TOKENS, seed=6)
FRONT = """q1, k1, v1 = Split <axis = -1, num_outputs = 3> (x)
    q2 = Reshape (q1, heads)  k2 = Reshape (k1, heads)  v2 = Reshape (v1, heads)
    q = Transpose <perm = [0, 2, 1, 3]> (q2)  k = Transpose <perm = [0, 2, 3, 1]> (k2)
    v = Transpose <perm = [0, 2, 1, 3]> (v2)  [scores] s = MatMul (q, k)"""
BACK = """[attn] p = Softmax <axis = -1> (l)  [context] a = MatMul (p, v)
    o = Transpose <perm = [0, 2, 1, 3]> (a)  y = Reshape (o, joined)"""
SPELLINGS = {
    "no bias": (f"{FRONT} l = Mul (s, scale) {BACK}", None),
    "bias": (f"{FRONT} z = Mul (s, scale)  l = Add (z, bias) {BACK}", BIAS),
    "windows": (
        f"{FRONT} z = Mul (s, scale)  u = Reshape (z, unfold)  m = Add (u, bias)  l = Reshape (m, fold) {BACK}",
        WINDOW_BIAS,
    ),
}


def model(spelling="no bias", batch=4):
    body, bias = SPELLINGS[spelling]
    text = f"agraph (float[{batch}, {TOKENS}, 18] x) => (float[{batch}, {TOKENS}, 6] y) {{ {body} }}"
    used = {name: np.array(value) for name, value in INTS.items() if f" {name})" in body}
    if bias is not None:
        used["bias"] = bias
    return model_of(text, scale=np.array(0.5, F32), **used)


def plan(codebook=False):
    rows, channels = table(SYMMETRIC, -2), table(SYMMETRIC, -1)
    if codebook:
        return AttentionPlan("attn", rows, rows, channels, table(CODEBOOK_PROBABILITIES, -2, bits=7), CODEBOOK)
    return AttentionPlan("attn", rows, rows, channels, table(PROBABILITIES, -2), uniform_levels(4))


def block_plan(codebook=False, **changes):
    query_key, value = BlockQuantizer(4, DIM, 0.875, 0.25), BlockQuantizer(5, DIM, 0.875, 0.25)
    groups = plan(codebook)
    made = BlockAttentionPlan("attn", query_key, value, groups.probability, groups.levels)
    return replace(made, **changes)


PLANS = {"groups": plan, "blocks": block_plan}


def passes(codebook=False, family="groups"):
    return lambda: QuantizeAttention({"attn": PLANS[family](codebook)})


def test_golden():
    """Case 1: rows of q and p, columns of the transposed k, channels of v."""
    check_golden(
        passes(),
        model(),
        """
        x = input [4, 4, 18]
        %0 [4, 4, 6], %1 [4, 4, 6], %2 [4, 4, 6] = Split(x; axis=-1, num_outputs=3)  # Split_0
        %3 [4, 4, 2, 3] = Reshape(%0, [0, 0, 2, 3])  # Reshape_1
        %4 [4, 4, 2, 3] = Reshape(%1, [0, 0, 2, 3])  # Reshape_2
        %5 [4, 4, 2, 3] = Reshape(%2, [0, 0, 2, 3])  # Reshape_3
        %6 [4, 2, 4, 3] = Transpose(%3; perm=[0, 2, 1, 3])  # Transpose_4
        %7 [4, 2, 3, 4] = Transpose(%4; perm=[0, 2, 3, 1])  # Transpose_5
        %8 [4, 2, 4, 3] = Transpose(%5; perm=[0, 2, 1, 3])  # Transpose_6
        %9 = qcompiler.GroupSort(%6, attn/query.groups:float32[2, 6]; axis=-2)  # attn/query/GroupSort
        %10 = qcompiler.GroupSort(%7, attn/key.groups:float32[2, 6]; axis=-1)  # attn/key/GroupSort
        %11 = qcompiler.GroupSort(%8, attn/value.groups:float32[2, 6]; axis=-1)  # attn/value/GroupSort
        %12 = qcompiler.GroupQuantizeLinear(%6, %9, attn/query.groups:float32[2, 6]; bits=4)  # attn/query/QuantizeLinear
        %13 = qcompiler.GroupQuantizeLinear(%7, %10, attn/key.groups:float32[2, 6]; bits=4)  # attn/key/QuantizeLinear
        %14 = qcompiler.GroupQuantizeLinear(%8, %11, attn/value.groups:float32[2, 6]; bits=4)  # attn/value/QuantizeLinear
        %15 = qcompiler.GroupDequantizeLinear(%12, %9, attn/query.groups:float32[2, 6])  # attn/query/DequantizeLinear
        %16 = qcompiler.GroupDequantizeLinear(%13, %10, attn/key.groups:float32[2, 6])  # attn/key/DequantizeLinear
        %17 = qcompiler.GroupDequantizeLinear(%14, %11, attn/value.groups:float32[2, 6])  # attn/value/DequantizeLinear
        %18 = MatMul(%15, %16)  # scores
        %19 = Mul(%18, 0.5)  # Mul_8
        %20 = Softmax(%19; axis=-1)  # attn
        %21 = qcompiler.GroupSort(%20, attn/probability.groups:float32[2, 6]; axis=-2)  # attn/probability/GroupSort
        %22 = qcompiler.GroupQuantizeLinear(%20, %21, attn/probability.groups:float32[2, 6]; bits=4)  # attn/probability/QuantizeLinear
        %23 = qcompiler.GroupDequantizeLinear(%22, %21, attn/probability.groups:float32[2, 6])  # attn/probability/DequantizeLinear
        %24 = MatMul(%23, %17)  # context
        %25 = Transpose(%24; perm=[0, 2, 1, 3])  # Transpose_11
        %26 [4, 4, 6] = Reshape(%25, [0, 0, 6])  # Reshape_12
        y = output %26
        """,  # noqa: E501
    )


def test_golden_blocks():
    """Case 2: keys are quantized as tokens, and transposed afterwards; all tokens of the values share a scale."""
    check_golden(
        passes(family="blocks"),
        model(),
        """
        x = input [4, 4, 18]
        %0 [4, 4, 6], %1 [4, 4, 6], %2 [4, 4, 6] = Split(x; axis=-1, num_outputs=3)  # Split_0
        %3 [4, 4, 2, 3] = Reshape(%0, [0, 0, 2, 3])  # Reshape_1
        %4 [4, 4, 2, 3] = Reshape(%1, [0, 0, 2, 3])  # Reshape_2
        %5 [4, 4, 2, 3] = Reshape(%2, [0, 0, 2, 3])  # Reshape_3
        %6 [4, 2, 4, 3] = Transpose(%3; perm=[0, 2, 1, 3])  # Transpose_4
        %7 [4, 2, 4, 3] = Transpose(%5; perm=[0, 2, 1, 3])  # Transpose_6
        %8 [4, 2, 4, 3] = Transpose(%4; perm=[0, 2, 1, 3])  # attn/key/heads
        %9, %10, %11, %12 = qcompiler.BlockQuantizeLinear(%6; bits=4, block=3, clip=0.875, rotate=1, shared=0, slack=0.25)  # attn/query/QuantizeLinear
        %13, %14, %15, %16 = qcompiler.BlockQuantizeLinear(%8; bits=4, block=3, clip=0.875, rotate=1, shared=0, slack=0.25)  # attn/key/QuantizeLinear
        %17, %18, %19, %20 = qcompiler.BlockQuantizeLinear(%7; bits=5, block=3, clip=0.875, rotate=1, shared=1, slack=0.25)  # attn/value/QuantizeLinear
        %21 = qcompiler.BlockDequantizeLinear(%9, %10, %11, %12)  # attn/query/DequantizeLinear
        %22 = qcompiler.BlockDequantizeLinear(%13, %14, %15, %16)  # attn/key/DequantizeLinear
        %23 = qcompiler.BlockDequantizeLinear(%17, %18, %19, %20)  # attn/value/DequantizeLinear
        %24 = Transpose(%22; perm=[0, 1, 3, 2])  # attn/key/Transpose
        %25 = MatMul(%21, %24)  # scores
        %26 = Mul(%25, 0.5)  # Mul_8
        %27 = Softmax(%26; axis=-1)  # attn
        %28 = qcompiler.GroupSort(%27, attn/probability.groups:float32[2, 6]; axis=-2)  # attn/probability/GroupSort
        %29 = qcompiler.GroupQuantizeLinear(%27, %28, attn/probability.groups:float32[2, 6]; bits=4)  # attn/probability/QuantizeLinear
        %30 = qcompiler.GroupDequantizeLinear(%29, %28, attn/probability.groups:float32[2, 6])  # attn/probability/DequantizeLinear
        %31 = MatMul(%30, %23)  # context
        %32 = Transpose(%31; perm=[0, 2, 1, 3])  # Transpose_11
        %33 [4, 4, 6] = Reshape(%32, [0, 0, 6])  # Reshape_12
        y = output %33
        """,  # noqa: E501
    )


def test_golden_codebook():
    """Case 3: between the codes and their reading, the operand of every code is picked."""
    graph, _ = applied(passes(codebook=True), model())
    lines = [line for line in text_of(graph) if "attn/probability" in line or "levels" in line]
    names = "attn/probability.groups:float32[2, 6]"
    assert lines == [
        f"%21 = qcompiler.GroupSort(%20, {names}; axis=-2)  # attn/probability/GroupSort",
        f"%22 = qcompiler.GroupQuantizeLinear(%20, %21, {names}; bits=7)  # attn/probability/QuantizeLinear",
        "%23 = Cast(%22; to=7)  # attn/probability/code_index",
        "%24 = Gather(attn.levels:uint8[128], %23; axis=0)  # attn/probability/levels",
        f"%25 = qcompiler.GroupDequantizeLinear(%24, %21, {names})  # attn/probability/DequantizeLinear",
    ]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_not_applicable(spelling):
    """Case 4: a Softmax that the plan does not name."""
    check_unchanged(lambda: QuantizeAttention({}), model(spelling), reason=r"^attn: not in the plan$")


def test_not_applicable_without_a_product_of_scores():
    """Case 5."""
    body = FRONT + " t = Tanh (s) " + BACK.replace("(l)", "(t)")
    text = f"agraph (float[4, {TOKENS}, 18] x) => (float[4, {TOKENS}, 6] y) {{ {body} }}"
    used = {name: np.array(INTS[name]) for name in ("heads", "joined")}
    check_unchanged(passes(), model_of(text, **used), reason="attn: no product of queries and keys in front of it")


def test_not_applicable_to_other_keys():
    """Case 5: in blocks the tokens of the keys must be known; groups only need the product."""
    body = SPELLINGS["no bias"][0]
    body = body.replace("k = Transpose", "t = Transpose").replace("[scores]", "k = Tanh (t) [scores]")
    text = f"agraph (float[4, {TOKENS}, 18] x) => (float[4, {TOKENS}, 6] y) {{ {body} }}"
    used = {name: np.array(INTS[name]) for name in ("heads", "joined")} | {"scale": np.array(0.5, F32)}
    other = model_of(text, **used)
    check_unchanged(passes(family="blocks"), other, reason="attn: its keys are not the transposed heads of tokens")
    assert applied(passes(), other)[1].applied == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": BlockQuantizer(4, 2)}, "cuts the 3 channels of a head into blocks of 2"),
        ({"query_key": BlockQuantizer(4, 6)}, "cuts the 3 channels of a head into blocks of 6"),
        ({"query_key": BlockQuantizer(4, 1, rotate=2)}, "rotates channels, which attention does not"),
    ],
)
def test_blocks_for_other_heads(changes, message):
    with pytest.raises(VerificationError, match=message):
        applied(lambda: QuantizeAttention({"attn": block_plan(**changes)}), model())


def test_a_plan_for_another_graph():
    with pytest.raises(VerificationError, match="the plan names 'other', which is no Softmax of an attention block"):
        applied(lambda: QuantizeAttention({"other": plan()}), model())
    text = "agraph (float[batch, 10] x) => (float[batch, 10] y) { [attn] y = Softmax <axis = -1> (x) }"
    with pytest.raises(VerificationError, match="no Softmax of an attention block"):
        applied(passes(), model_of(text))


@pytest.mark.parametrize("family", PLANS)
@pytest.mark.parametrize("codebook", [False, True])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_idempotent(spelling, codebook, family):
    check_idempotent(passes(codebook, family), model(spelling))


@pytest.mark.parametrize("codebook", [False, True], ids=["uniform", "codebook"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_numerical_oracle(spelling, codebook):
    """The written graph computes what the definition of GroupAttention says, with window b % 2 for row b."""
    x = weight(4, TOKENS, 18, seed=1)
    (y,) = outputs_after(passes(codebook), model(spelling), x=x)
    chosen = plan(codebook)
    expected, slack = reference.attention(
        x,
        SYMMETRIC,
        SYMMETRIC,
        SYMMETRIC,
        chosen.probability.to_array(),
        chosen.levels,
        SPELLINGS[spelling][1],
        num_heads=HEADS,
        scale=0.5,
        bits=4,
    )
    check_near(y, expected, slack, 2e-6)  # float products of read-back values, and the runtime's softmax


@pytest.mark.parametrize("codebook", [False, True], ids=["uniform", "codebook"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_numerical_oracle_of_blocks(spelling, codebook):
    """Likewise what the definition of BlockAttention says."""
    x = weight(4, TOKENS, 18, seed=1)
    (y,) = outputs_after(passes(codebook, "blocks"), model(spelling), x=x)
    chosen = block_plan(codebook)
    expected, slack = blocks.attention(
        x,
        chosen.probability.to_array(),
        chosen.levels,
        SPELLINGS[spelling][1],
        num_heads=HEADS,
        scale=0.5,
        qk_bits=4,
        v_bits=5,
        block=DIM,
        clip=0.875,
        slack=0.25,
    )
    check_near(y, expected, slack, 2e-6)  # float products of read-back values, and the runtime's softmax
