"""A transformer small enough to compile in a second: 8 x 8 pixels, 4 patches, one block of 16 channels in 2 heads.

With 64 channels it has room for blocks of channels, and its weights are most of the file.
"""

import numpy as np
import onnx
import onnx.parser

F = np.float32
CLASSES = 5
# Names of nodes by their first output; the text form allows no dots.
NAMES = {"c": "patch.proj", "qm": "attn.qkv", "om": "attn.proj", "fm": "mlp.fc1", "m": "mlp.fc2", "logits": "head"}


def tiny(batch="n", seed=0, dim=16):
    """The float model, opset 17; `batch` is a name or a number, `dim` the channels of a token."""
    draw = np.random.default_rng(seed)
    made = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]>
        tiny (float[{batch}, 1, 8, 8] x) => (float[{batch}, {CLASSES}] logits) {{
        c = Conv <kernel_shape = [4, 4], strides = [4, 4]> (x, patch_weight, patch_bias)
        r = Reshape (c, tokens)  t = Transpose <perm = [0, 2, 1]> (r)  e = Add (t, position)
        n1 = LayerNormalization <axis = -1, epsilon = 0.00001> (e, norm1_weight, norm1_bias)
        qm = MatMul (n1, qkv_weight)  qb = Add (qm, qkv_bias)
        five = Reshape (qb, heads)  turned = Transpose <perm = [2, 0, 3, 1, 4]> (five)
        q1, k1, v1 = Split <axis = 0> (turned, ones)
        q = Squeeze (q1, first)  k = Squeeze (k1, first)  v = Squeeze (v1, first)
        kt = Transpose <perm = [0, 1, 3, 2]> (k)
        s = MatMul (q, kt)  z = Mul (s, scale)  p = Softmax <axis = -1> (z)  a = MatMul (p, v)
        j = Transpose <perm = [0, 2, 1, 3]> (a)  o = Reshape (j, joined)
        om = MatMul (o, proj_weight)  ob = Add (om, proj_bias)  h = Add (e, ob)
        n2 = LayerNormalization <axis = -1, epsilon = 0.00001> (h, norm2_weight, norm2_bias)
        fm = MatMul (n2, fc1_weight)  fb = Add (fm, fc1_bias)
        g1 = Div (fb, root)  g2 = Erf (g1)  g3 = Add (g2, one)  g4 = Mul (fb, g3)  g = Mul (g4, half)
        m = MatMul (g, fc2_weight)  mb = Add (m, fc2_bias)  h2 = Add (h, mb)
        n3 = LayerNormalization <axis = -1, epsilon = 0.00001> (h2, norm3_weight, norm3_bias)
        pooled = ReduceMean <axes = [1], keepdims = 0> (n3)
        logits = Gemm (pooled, head_weight, head_bias)
        }}"""
    )
    made.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name) for name, value in _weights(draw, dim).items()
    )
    for node in made.graph.node:
        node.name = NAMES.get(node.output[0], f"node_{node.output[0]}")
    onnx.checker.check_model(made, full_check=True)
    return made


def _weights(draw, dim):
    hidden = 2 * dim
    found = {
        "patch_weight": draw.standard_normal((dim, 1, 4, 4)) / 4,
        "patch_bias": draw.standard_normal(dim) * 0.1,
        "position": draw.standard_normal((1, 4, dim)) * 0.5,
    }
    for name, inner, outer in (
        ("qkv", dim, 3 * dim),
        ("proj", dim, dim),
        ("fc1", dim, hidden),
        ("fc2", hidden, dim),
        ("head", dim, CLASSES),
    ):
        found[f"{name}_weight"] = draw.standard_normal((inner, outer)) / np.sqrt(inner) * 1.5
        found[f"{name}_bias"] = draw.standard_normal(outer) * 0.1
    for name in ("norm1", "norm2", "norm3"):
        found[f"{name}_weight"] = draw.uniform(0.5, 2, dim)
        found[f"{name}_bias"] = draw.standard_normal(dim) * 0.1
    numbers = {name: value.astype(F) for name, value in found.items()}
    numbers |= {"scale": F((dim // 2) ** -0.5), "root": F(np.sqrt(2)), "one": F(1), "half": F(0.5)}
    shapes = {
        "tokens": [0, dim, 4],
        "heads": [0, 4, 3, 2, dim // 2],
        "joined": [0, 4, dim],
        "ones": [1, 1, 1],
        "first": [0],
    }
    return {name: np.asarray(value) for name, value in (numbers | shapes).items()}


def images(count, seed=1):
    """`[count, 1, 8, 8]`, float32."""
    return np.random.default_rng(seed).standard_normal((count, 1, 8, 8)).astype(F)


def save(folder, batch="n", count=24, name="tiny", dim=16):
    """The model and calibration data beside it; returns the model's path."""
    path = folder / f"{name}.onnx"
    onnx.save(tiny(batch, dim=dim), path)
    np.savez(folder / f"{name}.calib.npz", x=images(count))
    return path
