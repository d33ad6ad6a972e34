import numpy as np
import pytest

from qcompiler.passes.canonical_attention import CanonicalAttention

from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

H, D, N = 2, 3, 4
INTS = {
    "five": [0, N, 3, H, D],
    "four": [0, N, H, D],
    "out": [0, N, H * D],
    "axis0": [0],
    "ones": [1, 1, 1],
    "third": [H * D] * 3,
    "merged": [-1, N, D],
    "unmerged": [-1, H, N, D],
    "unfold": [-1, 2, H, N, N],
    "fold": [-1, H, N, N],
    "interleaved": [0, N, H, 3, D],
}
FLOATS = {
    "scale": np.array(0.6, np.float32),
    "root": np.array(0.8, np.float32),
    "temperature": np.array(1.7, np.float32),
    "table": weight(1, H, N, N, seed=3),
    "mask": np.where(np.arange(2 * N * N).reshape(1, 2, 1, N, N) % 5 == 0, -100.0, 0.0).astype(np.float32),
    "w": weight(6, 3 * H * D, seed=4),
    "b": weight(3 * H * D, seed=5),
    "wq": weight(6, H * D, seed=6),
    "wk": weight(6, H * D, seed=7),
    "wv": weight(6, H * D, seed=8),
    "per_head": weight(H, 1, 1, seed=9),
    "per_query": weight(N, 1, seed=9),
}
# q, k, v from a packed qkv [B, N, 3 H D]; k comes out transposed.
PACKED = """r = Reshape (qkv, five)  t = Transpose <perm = [2, 0, 3, 1, 4]> (r)  q1, k1, v1 = Split <axis = 0> (t, ones)
    q = Squeeze (q1, axis0)  kn = Squeeze (k1, axis0)  v = Squeeze (v1, axis0)
    k = Transpose <perm = [0, 1, 3, 2]> (kn)"""
SPLIT_FIRST = """qs, ks, vs = Split <axis = 2> (qkv, third)
    q2 = Reshape (qs, four)  k2 = Reshape (ks, four)  v2 = Reshape (vs, four)
    q = Transpose <perm = [0, 2, 1, 3]> (q2)  k = Transpose <perm = [0, 2, 3, 1]> (k2)
    v = Transpose <perm = [0, 2, 1, 3]> (v2)"""
MERGED_HEADS = (
    PACKED.replace("q = ", "q4 = ")
    .replace("kn = ", "k4 = ")
    .replace("v = Squ", "v4 = Squ")
    .replace(
        "k = Transpose <perm = [0, 1, 3, 2]> (kn)",
        """q = Reshape (q4, merged)  k3 = Reshape (k4, merged)  v = Reshape (v4, merged)
    k = Transpose <perm = [0, 2, 1]> (k3)""",
    )
)
INTERLEAVED = """m = MatMul (qkv, w)  l = Add (m, b)  r = Reshape (l, interleaved)
    t = Transpose <perm = [3, 0, 2, 1, 4]> (r)
    q1, k1, v1 = Split <axis = 0> (t, ones)
    q = Squeeze (q1, axis0)  kn = Squeeze (k1, axis0)  v = Squeeze (v1, axis0)
    k = Transpose <perm = [0, 1, 3, 2]> (kn)"""
SEPARATE = """mq = MatMul (qkv, wq)  mk = MatMul (qkv, wk)  mv = MatMul (qkv, wv)
    q2 = Reshape (mq, four)  k2 = Reshape (mk, four)  v2 = Reshape (mv, four)
    q = Transpose <perm = [0, 2, 1, 3]> (q2)  k = Transpose <perm = [0, 2, 3, 1]> (k2)
    v = Transpose <perm = [0, 2, 1, 3]> (v2)"""
OPAQUE = PACKED + "  qn = Tanh (q)"
JOIN = "o = Transpose <perm = [0, 2, 1, 3]> (a)  y = Reshape (o, out)"
PLAIN = "s = MatMul (q, k)  z = Mul (s, scale)  p = Softmax <axis = -1> (z)  a = MatMul (p, v)"
CASES = {
    "packed, scale behind": f"{PACKED} {PLAIN} {JOIN}",
    "packed, roots on q and k": f"""{PACKED} q5 = Mul (q, root)  k5 = Mul (root, k)  s = MatMul (q5, k5)
        p = Softmax <axis = 3> (s)  a = MatMul (p, v) {JOIN}""",
    "packed, division": f"""{PACKED} s = MatMul (q, k)  z = Div (s, temperature)  p = Softmax <axis = -1> (z)
        a = MatMul (p, v) {JOIN}""",
    "no scale": f"{PACKED} s = MatMul (q, k)  p = Softmax <axis = -1> (s)  a = MatMul (p, v) {JOIN}",
    "split first": f"{SPLIT_FIRST} {PLAIN} {JOIN}",
    "three axes": f"{MERGED_HEADS} {PLAIN} c = Reshape (a, unmerged) {JOIN.replace('(a)', '(c)')}",
    "bias before the scale": f"""{PACKED} s = MatMul (q, k)  g = Add (s, table)  z = Mul (g, scale)
        p = Softmax <axis = -1> (z)  a = MatMul (p, v) {JOIN}""",
    "windows": f"""{PACKED} q5 = Mul (q, scale)  s = MatMul (q5, k)  g = Add (table, s)  u = Reshape (g, unfold)
        m = Add (u, mask)  z = Reshape (m, fold)  p = Softmax <axis = -1> (z)  a = MatMul (p, v) {JOIN}""",
    "interleaved columns": f"{INTERLEAVED} {PLAIN} {JOIN}",
    "separate layers": f"{SEPARATE} {PLAIN} {JOIN}",
    "factor per head": f"{PACKED} {PLAIN.replace('scale', 'per_head')} {JOIN}",
    "factors per head and a bias": f"""{PACKED} s = MatMul (q, k)  z1 = Mul (per_head, s)  z2 = Mul (z1, scale)
        z = Mul (z2, per_head)  g = Add (z, table)  p = Softmax <axis = -1> (g)  a = MatMul (p, v) {JOIN}""",
    "opaque query": f"{OPAQUE} {PLAIN.replace('(q,', '(qn,')} {JOIN}",
    "three axes, output stays merged": f"""{MERGED_HEADS} {PLAIN} c = Relu (a)  e = Reshape (c, unmerged)
        {JOIN.replace("(a)", "(e)")}""",
    "output stays in heads": f"{PACKED} {PLAIN} y = Relu (a)",
}
REFUSED = {
    "scores read elsewhere": (f"{PACKED} {PLAIN} {JOIN}  extra = Relu (s)", "read elsewhere"),
    "probabilities read elsewhere": (f"{PACKED} {PLAIN} {JOIN}  extra = Relu (p)", "not read by one product"),
    "factor per head behind a bias": (
        f"{PACKED} s = MatMul (q, k)  g = Add (s, table)  z = Mul (g, per_head)  p = Softmax <axis = -1> (z)"
        f" a = MatMul (p, v) {JOIN}",
        "the scores are changed by node",
    ),
    "factor per query": (f"{PACKED} {PLAIN.replace('scale', 'per_query')} {JOIN}", "the scores are changed by node"),
    "computed mask": (
        f"{PACKED} s = MatMul (q, k)  c = Tanh (v)  r1 = ReduceMean (c)  z = Add (s, r1)  p = Softmax <axis = -1> (z)"
        f" a = MatMul (p, v) {JOIN}",
        "the scores are changed by node",
    ),
}


def graph(case, batch="batch"):
    body = CASES[case] if case in CASES else REFUSED[case][0]
    constants = {name: np.array(value, np.int64) for name, value in INTS.items()} | FLOATS
    width = width_of(case)
    shape = f"[{batch}, {H}, {N}, {D}]" if "y = Relu (a)" in body else f"[{batch}, {N}, {H * D}]"
    outputs = f"float{shape} y" + (", float extra" if "extra" in body else "")
    if case == "windows":  # two windows per image
        text = f"""agraph (float[{batch}, 2, {N}, {width}] images) => (float[w, {N}, {H * D}] y) {{
            qkv = Reshape (images, folded) {body} }}"""
        return model_of(text, folded=np.array([-1, N, width]), **constants)
    return model_of(f"agraph (float[{batch}, {N}, {width}] qkv) => ({outputs}) {{ {body} }}", **constants)


def width_of(case):
    """Channels of the input: of the linear layers where the case has them, else of the packed tensor."""
    return 6 if case in ("interleaved columns", "separate layers") else 3 * H * D


def feed(case, batch):
    width = width_of(case)
    if case == "windows":
        return {"images": weight(batch, 2, N, width, seed=1)}
    return {"qkv": weight(batch, N, width, seed=1)}


def test_golden():
    check_golden(
        CanonicalAttention,
        graph("packed, roots on q and k"),
        """
        qkv = input [batch, 4, 18]
        %0 [batch, 4, 6], %1 [batch, 4, 6], %2 [batch, 4, 6] = Split(qkv; axis=-1, num_outputs=3)  # MatMul_9/Split
        %3 [batch, 4, 2, 3] = Reshape(%0, [0, 0, 2, 3])  # MatMul_9/q/Reshape
        %4 [batch, 4, 2, 3] = Reshape(%1, [0, 0, 2, 3])  # MatMul_9/k/Reshape
        %5 [batch, 4, 2, 3] = Reshape(%2, [0, 0, 2, 3])  # MatMul_9/v/Reshape
        %6 [batch, 2, 4, 3] = Transpose(%3; perm=[0, 2, 1, 3])  # MatMul_9/q/Transpose
        %7 [batch, 2, 3, 4] = Transpose(%4; perm=[0, 2, 3, 1])  # MatMul_9/k/Transpose
        %8 [batch, 2, 4, 3] = Transpose(%5; perm=[0, 2, 1, 3])  # MatMul_9/v/Transpose
        %9 [batch, 2, 4, 4] = MatMul(%6, %7)  # MatMul_9/scores/MatMul
        %10 [batch, 2, 4, 4] = Mul(%9, 0.64)  # MatMul_9/scores/Mul
        %11 [batch, 2, 4, 4] = Softmax(%10; axis=-1)  # MatMul_9/Softmax
        %12 [batch, 2, 4, 3] = MatMul(%11, %8)  # MatMul_9/MatMul
        %13 [batch, 4, 2, 3] = Transpose(%12; perm=[0, 2, 1, 3])  # MatMul_9/Transpose
        %14 [batch, 4, 6] = Reshape(%13, [0, 0, 6])  # MatMul_9/Reshape
        y = output %14
        """,
    )


def test_golden_windows():
    graph_, _ = applied(CanonicalAttention, graph("windows"))
    nodes = {node.op: node for node in graph_.nodes}
    assert nodes["Add"].inputs[1].shape == (2, H, N, N)
    assert [node.inputs[1].values.tolist() for node in graph_.nodes if node.op == "Reshape"][4:6] == [
        [-1, 2, H, N, N],
        [-1, H, N, N],
    ]


@pytest.mark.parametrize("case", REFUSED)
def test_not_applicable(case):
    check_unchanged(CanonicalAttention, graph(case), reason=REFUSED[case][1])


def test_not_applicable_to_a_classifier():
    text = "agraph (float[batch, 10] x) => (float[batch, 10] y) { y = Softmax <axis = -1> (x) }"
    check_unchanged(CanonicalAttention, model_of(text), reason="not read by one product")


@pytest.mark.parametrize("case", CASES)
def test_idempotent(case):
    check_idempotent(CanonicalAttention, graph(case))


@pytest.mark.parametrize("batch", ["batch", "1", "2"])
@pytest.mark.parametrize("case", CASES)
def test_numerical_oracle(case, batch):
    # 3e-6: the scale is applied after the product, and factors are multiplied in float64 first.
    size = 3 if batch == "batch" else int(batch)
    check_equal(CanonicalAttention, graph(case, batch), 3e-6, **feed(case, size))


def test_cross_attention_is_refused():
    text = """agraph (float[batch, 2, 4, 3] q, float[batch, 2, 3, 5] k, float[batch, 2, 5, 3] v)
        => (float[batch, 2, 4, 3] y) { s = MatMul (q, k)  p = Softmax <axis = -1> (s)  y = MatMul (p, v) }"""
    check_unchanged(CanonicalAttention, model_of(text), reason="4 queries and 5 keys")
