"""Quantized transformers small enough to count by hand, with every form that a layer can have in a file."""

from __future__ import annotations

import numpy as np
import onnx

from ..passes.quantized import quantized_model, with_bodies

F32 = np.float32
EXACT = np.array([[-1, 1, s, 0, s, 1] for s in (0.1, 0.2, 0.3, 0.4, 0.5)], F32)
CODEBOOK = np.repeat(np.arange(0, 128, 8, dtype=np.uint8), 8)  # 128 indices, 16 operands

# 4 patches of 4 pixels, 8 channels, 2 heads, 16 hidden channels, 3 classes.
_VIT = """agraph (float[{batch}, 1, 4, 4] x) => (float[{batch}, 3] y) {{
    r1 = Reshape (x, grid)  r2 = Transpose <perm = [0, 1, 3, 2, 4]> (r1)  p = Reshape (r2, patches)
    [embed] e = qcompiler.BlockLinear <bits = 7, block = 4, clip = 1.0, slack = 0.25, rotate = 1>
        (p, we, s8, we_blocks, s8)
    h0 = Add (e, position)
    [qkv] qkv = qcompiler.LayerNormBlockLinear
        <epsilon = 0.001, bits = 4, block = 4, clip = 1.0, slack = 0.25, rotate = 2>
        (h0, s8, s8, wq, s24, wq_blocks, s24)
    [attn] a = qcompiler.BlockAttention
        <num_heads = 2, scale = 0.5, qk_bits = 4, v_bits = 5, block = 4, clip = 1.0, slack = 0.25>
        (qkv, g3, levels)
    [proj] h1 = qcompiler.BlockLinearAdd <bits = 6, block = 8, clip = 1.0, slack = 0.25, rotate = 8>
        (a, wp, s8, wp_blocks, s8, h0)
    [fc1] f = qcompiler.LayerNormGroupLinearGelu
        <epsilon = 0.001, bits = 3, axis = -1, segments = 0, normalize = 1, approximate = "none">
        (h1, s8, s8, w1, s16, w1_blocks, g4, s16)
    [fc2] h2 = qcompiler.GroupLinearAdd <bits = 4, axis = -1, segments = 1, normalize = 0>
        (f, w2, s8, w2_blocks, exact, s8, h1)
    c = Gather <axis = 1> (h2, zero)
    [head] z = qcompiler.LayerNormGroupLinear
        <epsilon = 0.001, bits = 8, axis = -2, segments = 0, normalize = 1> (c, s8, s8, wh, s3, wh_blocks, g1, s3)
    y = Softmax <axis = -1> (z)
}}"""

# 2 windows of 4 tokens; two heads of which the mean is taken.
_WINDOWS = """agraph (float[{batch}, 8, 4] x) => (float[{batch}, 3] y) {{
    [embed] e = qcompiler.GroupLinear <bits = 8, axis = -2, segments = 0, normalize = 0>
        (x, we, s8, we_blocks, g1, s8)
    w = Reshape (e, windows)
    [qkv] qkv = qcompiler.GroupLinear <bits = 4, axis = -1, segments = 0, normalize = 0>
        (w, wq, s24, wq_blocks, g4, s24)
    [attn] a = qcompiler.GroupAttentionBias <num_heads = 2, scale = 0.5, bits = 4>
        (qkv, g2, g1, g4, g3, uniform, mask)
    b = Reshape (a, joined)
    m = ReduceMean <keepdims = 0> (b, one)
    [head] z1 = qcompiler.BlockLinear <bits = 5, block = 8, clip = 1.0, slack = 0.25, rotate = 1>
        (m, wh, s3, wh_blocks, s3)
    [distilled] z2 = qcompiler.BlockLinearAdd <bits = 5, block = 8, clip = 1.0, slack = 0.25, rotate = 1>
        (m, wh, s3, wh_blocks, s3, z1)
    y = Div (z2, two)
}}"""

# A linear layer, and the product of its result with itself, both between readable nodes of blocks.
_READABLE = """agraph (float[{batch}, 5, 8] x) => (float[{batch}, 5, 5] y) {{
    n = Sqrt (x)
    nc, nm, nz, ns = qcompiler.BlockQuantizeLinear
        <bits = 4, block = 4, clip = 1.0, slack = 0.25, shared = 0, rotate = 2> (n)
    nr = qcompiler.BlockDequantizeLinear (nc, nm, nz, ns)
    wu = DequantizeLinear <axis = 0, block_size = 2> (wr, multiples, zeros)  w = Mul (wu, s8)
    [fc] f = MatMul (nr, w)
    qc, qm, qz, qs = qcompiler.BlockQuantizeLinear
        <bits = 3, block = 8, clip = 1.0, slack = 0.25, shared = 0, rotate = 1> (f)
    q = qcompiler.BlockDequantizeLinear (qc, qm, qz, qs)
    kc, km, kz, ks = qcompiler.BlockQuantizeLinear
        <bits = 3, block = 2, clip = 1.0, slack = 0.25, shared = 0, rotate = 1> (f)
    kr = qcompiler.BlockDequantizeLinear (kc, km, kz, ks)  k = Transpose <perm = [0, 2, 1]> (kr)
    [scores] s = MatMul (q, k)  y = Relu (s)
}}"""


def codes(inner, outputs, limit):
    """Weight codes in -limit .. limit, both of them there."""
    return np.resize(np.arange(-limit, limit + 1), (inner, outputs)).astype(np.int8)


def blocks(count, outputs, byte=0x18):
    return np.full((count, outputs), byte, np.uint8)


def table(count):
    found = np.ones((count, 6), F32)
    found[:, 0] = -1
    return found


_CONSTANTS = {
    **{f"s{size}": np.full(size, 0.5, F32) for size in (3, 8, 16, 24)},
    **{f"g{count}": table(count) for count in (1, 2, 3, 4)},
    "exact": EXACT,
    "levels": CODEBOOK,
    "uniform": np.arange(16, dtype=np.uint8),
    "position": np.full((1, 4, 8), 0.1, F32),
    "mask": np.full((2, 1, 4, 4), 0.1, F32),
    "two": np.array(2, F32),
    "zero": np.array(0),
    "one": np.array([1]),
    "grid": np.array([0, 2, 2, 2, 2]),
    "patches": np.array([0, 4, 4]),
    "windows": np.array([-1, 4, 8]),
    "joined": np.array([-1, 8, 8]),
    "we": codes(4, 8, 127),
    "we_blocks": blocks(1, 8),
    "wq_blocks": blocks(4, 24, 0x37),
    "wp": codes(8, 8, 15),  # 5 bits in a byte
    "wp_blocks": blocks(1, 8),
    "w1_blocks": blocks(1, 16),
    "w2_blocks": blocks(1, 8),
    "wh": codes(8, 3, 100),
    "wh_blocks": blocks(1, 3),
    "multiples": np.full((4, 8), 3, F32),
}
_INT4 = {
    "wq": codes(8, 24, 7),
    "w1": codes(8, 16, 3),
    "w2": codes(16, 8, 1),
    "wr": codes(8, 8, 7),
    "zeros": np.zeros((4, 8), np.int8),
}


def vit(batch="n", **constants):
    """Images [batch, 1, 4, 4]; `constants` stand in the place of the usual ones."""
    return _made(_VIT, batch, constants)


def windows(batch="n", **constants):
    """Tokens [batch, 8, 4]."""
    return _made(_WINDOWS, batch, constants)


def readable(batch="n", **constants):
    """Tokens [batch, 5, 8]."""
    return _made(_READABLE, batch, constants)


def _made(text, batch, constants):
    text = text.format(batch=batch)
    used = {name for part in text.split("(") for name in part.split(")")[0].split(", ")}
    int4 = {name: values for name, values in _INT4.items() if name in used and name not in constants}
    made = with_bodies(quantized_model(text, int4, **{**_CONSTANTS, **constants}))
    onnx.checker.check_model(made)
    return made
