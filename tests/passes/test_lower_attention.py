import numpy as np
import pytest

from qcompiler.passes.lower_attention import LowerAttention
from qcompiler.quant.levels import uniform_levels

from ..runtime_ops import blocks, reference
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


def cut(x, result, bits=4, shared=0, changes=""):
    """Blocks of each token; `changes` are attributes in place of the usual ones."""
    usual = {"block": "3", "clip": "0.875", "slack": "0.25", "rotate": "1"}
    usual |= dict(item.split(" = ") for item in changes.split(", ") if item)
    attributes = ", ".join(f"{name} = {value}" for name, value in usual.items())
    return f"""{x}c, {x}m, {x}z, {x}s = qcompiler.BlockQuantizeLinear
        <bits = {bits}, shared = {shared}, {attributes}> ({x})
        {result} = qcompiler.BlockDequantizeLinear ({x}c, {x}m, {x}z, {x}s)"""


def in_blocks(query="", key="", value="", k_bits=4, shared=1):
    """q, k and v in blocks: the keys are transposed behind their quantizer."""
    return f"""{cut("q", "qr", changes=query)} {cut("k", "kt", k_bits, changes=key)}
        {cut("v", "vr", 5, shared, value)} kr = Transpose <perm = [0, 1, 3, 2]> (kt)  s = MatMul (qr, kr)"""


BLOCKS_APART = HEADS_APART.replace("[0, 2, 3, 1]", "[0, 2, 1, 3]")
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


def body(mask="no bias", codebook=False, join=JOIN, split=SPLIT, qkv=QKV, apart=HEADS_APART):
    bits, levels = (7, "levels") if codebook else (4, "")
    return f"""{split} {apart} {qkv} {MASKS[mask][0]}  p = Softmax <axis = -1> (l)
        {quantizer("p", "pr", "p_groups", -2, bits, levels)}  a = MatMul (pr, vr)  {join}"""


def block_body(mask="no bias", codebook=False, apart=BLOCKS_APART, join=JOIN, **changes):
    return body(mask, codebook, join, qkv=in_blocks(**changes), apart=apart)


BODIES = {"groups": body, "blocks": block_body}


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
    """Case 3: the bias gets rank 4; the reshapes to windows are gone."""
    check_golden(
        LowerAttention,
        model(mask, codebook=True),
        f"""
        x = input [8, 4, 18]
        %0 [8, 4, 6] = qcompiler.GroupAttentionBias(x, q_groups:float32[2, 6], k_groups:float32[2, 6], v_groups:float32[2, 6], p_groups:float32[2, 6], levels:uint8[128], blocks.0.attn.bias:float32{shape}; bits=4, num_heads=2, scale=0.5)  # blocks.0.attn
        y = output %0
        """,  # noqa: E501
    )


def test_golden_blocks():
    """Case 2."""
    check_golden(
        LowerAttention,
        model(text=block_body()),
        """
        x = input [8, 4, 18]
        %0 [8, 4, 6] = qcompiler.BlockAttention(x, p_groups:float32[2, 6], blocks.0.attn.levels:uint8[16]; block=3, clip=0.875, num_heads=2, qk_bits=4, scale=0.5, slack=0.25, v_bits=5)  # blocks.0.attn
        y = output %0
        """,  # noqa: E501
    )


def test_golden_blocks_and_bias():
    """Cases 2 and 3."""
    check_golden(
        LowerAttention,
        model("windows", True, block_body("windows", True)),
        """
        x = input [8, 4, 18]
        %0 [8, 4, 6] = qcompiler.BlockAttentionBias(x, p_groups:float32[2, 6], levels:uint8[128], blocks.0.attn.bias:float32[4, 2, 4, 4]; block=3, clip=0.875, num_heads=2, qk_bits=4, scale=0.5, slack=0.25, v_bits=5)  # blocks.0.attn
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
        "do not go through quantizers of one kind",
    ),
    "groups and blocks": (
        body(qkv=QKV.replace(quantizer("q", "qr", "q_groups", -2), cut("q", "qr"))),
        "do not go through quantizers of one kind",
    ),
    "widths of groups": (
        body(qkv=QKV.replace(quantizer("v", "vr", "v_groups", -1), quantizer("v", "vr", "v_groups", -1, 3))),
        "queries, keys and values have 4, 4 and 3 bits",
    ),
    "keys transposed otherwise": (
        body(apart=HEADS_APART.replace("[0, 2, 3, 1]", "[0, 3, 2, 1]")),
        "not read from one packed tensor",
    ),
    "keys transposed otherwise behind blocks": (
        block_body().replace("[0, 1, 3, 2]", "[0, 3, 1, 2]"),
        "do not go through quantizers of one kind",
    ),
    "a step in front of blocks": (
        block_body(apart=BLOCKS_APART.replace("v = Transpose", "u = Transpose") + " v = Tanh (u)"),
        "not read from one packed tensor",
    ),
    "values with a scale per token": (block_body(shared=0), "do not go through quantizers of one kind"),
    "widths of keys": (block_body(k_bits=3), "queries, keys and values differ in blocks"),
    "sizes of blocks": (block_body(value="block = 1"), "queries, keys and values differ in blocks"),
    "clips of blocks": (block_body(value="clip = 0.5"), "queries, keys and values differ in blocks"),
    "slacks of blocks": (block_body(key="slack = 0.5"), "queries, keys and values differ in blocks"),
    "rotated": (block_body(value="rotate = 2"), "channels are rotated in sets of 1 and 2"),
    "keys and queries swapped": (
        body(split="k1, q1, v1 = Split <axis = -1, num_outputs = 3> (x)"),
        "not read from one packed tensor",
    ),
    "not packed": (body(split="q1 = Relu (x3)  k1 = Tanh (x3)  v1 = Abs (x3)"), "not read from one packed tensor"),
    "heads stay apart": (body(join="y = Relu (a)"), "not read from one packed tensor"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_not_applicable(case):
    """Cases 4, 5 and 6."""
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


@pytest.mark.parametrize("family", BODIES)
@pytest.mark.parametrize("mask", MASKS)
def test_idempotent(mask, family):
    check_idempotent(LowerAttention, model(mask, text=BODIES[family](mask)))


def rank_four(mask):
    bias = MASKS[mask][1]
    return None if bias is None else bias.reshape(*((1,) * (4 - bias.ndim)), *bias.shape[-4:])


@pytest.mark.parametrize("codebook", [False, True], ids=["uniform", "codebook"])
@pytest.mark.parametrize("mask", MASKS)
def test_numerical_oracle(mask, codebook):
    """The fused operator and the readable nodes against the definition; row b of the batch takes window b % 4."""
    x = weight(8, TOKENS, 18, seed=1)
    bias = rank_four(mask)
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


@pytest.mark.parametrize("codebook", [False, True], ids=["uniform", "codebook"])
@pytest.mark.parametrize("mask", MASKS)
def test_numerical_oracle_of_blocks(mask, codebook):
    """Likewise for blocks."""
    x = weight(8, TOKENS, 18, seed=1)
    made = model(mask, codebook, block_body(mask, codebook))
    (fused,) = outputs_after(LowerAttention, made, x=x)
    (readable,) = run(with_bodies(model(mask, codebook, block_body(mask, codebook))), {"x": x})
    expected, slack = blocks.attention(
        x,
        CODEBOOK_PROBABILITIES if codebook else PROBABILITIES,
        CODEBOOK if codebook else uniform_levels(4),
        rank_four(mask),
        num_heads=HEADS,
        scale=0.5,
        qk_bits=4,
        v_bits=5,
        block=DIM,
        clip=0.875,
        slack=0.25,
    )
    check_near(fused, expected, slack, 1e-6)  # the runtime's softmax
    check_near(readable, expected, slack, 2e-6)  # and float products of read-back values
