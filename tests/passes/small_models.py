"""Transformers small enough to be written by hand, in the spelling of torch's older exporter."""

import numpy as np

from .helpers import model_of, weight

TEXT = """agraph (float[batch, 3, 4, 4] x) => (float[batch, 3] y) {
    conv = Conv <kernel_shape = [2, 2], strides = [2, 2]> (x, we, be)
    cshape = Shape (conv)
    clead = Slice (cshape, zero_, two_, zero_)
    ctarget = Concat <axis = 0> (clead, minus)
    flat = Reshape (conv, ctarget)
    patches = Transpose <perm = [0, 2, 1]> (flat)
    pshape = Shape (patches)
    batch0 = Gather <axis = 0> (pshape, zero)
    batch1 = Unsqueeze (batch0, zero_)
    etarget = Concat <axis = 0> (batch1, ones)
    class = Expand (cls, etarget)
    joined = Concat <axis = 1> (class, patches)
    h0 = Add (joined, pos)
    n1 = LayerNormalization <axis = -1> (h0, gamma, beta)
    m1 = MatMul (n1, wqkv)
    l1 = Add (bqkv, m1)
    target = Concat <axis = 0> (batch1, split)
    r = Reshape (l1, target)
    t = Transpose <perm = [2, 0, 3, 1, 4]> (r)
    q1, k1, v1 = Split <axis = 0> (t, ones3)
    q = Squeeze (q1, zero_)
    k2 = Squeeze (k1, zero_)
    v = Squeeze (v1, zero_)
    k = Transpose <perm = [0, 1, 3, 2]> (k2)
    sc = MatMul (q, k)
    sc2 = Mul (sc, half)
    p = Softmax <axis = -1> (sc2)
    a = MatMul (p, v)
    ta = Transpose <perm = [0, 2, 1, 3]> (a)
    back = Concat <axis = 0> (batch1, rest)
    ra = Reshape (ta, back)
    m2 = MatMul (ra, wproj)
    l2 = Add (bproj, m2)
    h1 = Add (h0, l2)
    n2 = LayerNormalization <axis = -1> (h1, gamma, beta)
    m3 = MatMul (n2, w1)
    l3 = Add (b1, m3)
    g1 = Div (l3, sqrt2)
    g2 = Erf (g1)
    g3 = Add (g2, one)
    g4 = Mul (l3, g3)
    g = Mul (g4, half)
    m4 = MatMul (g, w2)
    l4 = Add (b2, m4)
    h2 = Add (h1, l4)
    n3 = LayerNormalization <axis = -1> (h2, gamma, beta)
    c = Gather <axis = 1> (n3, zero)
    y = Gemm <transB = 1> (c, wh, bh)
}"""
NAMES = {"conv": "embed", "m1": "qkv", "m2": "proj", "m3": "fc1", "m4": "fc2", "y": "head"}


def small_vit(batch="batch", scores="sc2 = Mul (sc, half)"):
    """One block, 5 tokens of 8 channels, 2 heads; input `x` [batch, 3, 4, 4], output `y` [batch, 3]."""
    ints = {
        "zero": 0,
        "zero_": [0],
        "two_": [2],
        "minus": [-1],
        "ones": [1, 8],
        "split": [5, 3, 2, 4],
        "ones3": [1, 1, 1],
        "rest": [5, 8],
    }
    floats = {"half": 0.5, "one": 1.0, "sqrt2": 1.4142135}
    shapes = {
        "we": (8, 3, 2, 2),
        "be": (8,),
        "cls": (1, 1, 8),
        "pos": (1, 5, 8),
        "gamma": (8,),
        "beta": (8,),
        "wqkv": (8, 24),
        "bqkv": (24,),
        "wproj": (8, 8),
        "bproj": (8,),
        "w1": (8, 16),
        "b1": (16,),
        "w2": (16, 8),
        "b2": (8,),
        "wh": (3, 8),
        "bh": (3,),
    }
    constants = {name: np.array(value, np.int64) for name, value in ints.items()}
    constants |= {name: np.array(value, np.float32) for name, value in floats.items()}
    constants |= {name: weight(*shape, seed=seed, scale=0.5) for seed, (name, shape) in enumerate(shapes.items())}
    text = TEXT.replace("sc2 = Mul (sc, half)", scores)
    model = model_of(text.replace("[batch", f"[{batch}"), opset=17, **constants)
    for node in model.graph.node:
        node.name = NAMES.get(node.output[0], f"/{node.output[0]}/{node.op_type}")
    return model
