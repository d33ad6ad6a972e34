"""ONNX Runtime's graph optimisations leave the arithmetic of the bodies as it is written, bit by bit."""

import numpy as np
import onnx
import pytest

from qcompiler.ir.functions import functions_for

from ..runtime_ops import blocks
from ..runtime_ops.nodes import (
    F32,
    MODES,
    attention_node,
    block_attention_node,
    block_node,
    linear_node,
    probability_table,
    random_blocks,
    random_table,
    random_weight,
)
from .bodies import run

LEVELS = np.arange(16, dtype=np.uint8)
TOKENS = (3, 160, 24)
PARTS = {
    "Linear": {},
    "LinearGelu": {"gelu": True},
    "LinearAdd": {"residual": True},
    "LayerNormLinear": {"norm": True},
    "LayerNormLinearGelu": {"norm": True, "gelu": True},
}


# -- The steps of a block


def pairs(bits):
    """Blocks of two numbers, all pairs of halves between 0 and `top` steps, behind one that makes the scale 1."""
    top = 2**bits - 1
    reach = (127 // 2 ** (bits - 1)) * 2 ** (bits - 1)
    halves = np.arange(0, reach + 0.5, 0.5 if bits < 5 else 1.5)
    low, high = np.meshgrid(-halves, halves)
    rows = np.stack([np.full(low.size, reach), np.zeros(low.size), low.ravel(), high.ravel()], axis=-1)
    return rows.astype(F32), top


def quantize_model(bits, slack):
    """A single BlockQuantizeLinear of blocks of two."""
    text = f"""<ir_version: 10, opset_import: ["" : 21, "qcompiler" : 1]>
    one (float[N, 4] X) => (uint8[N, 4] codes, float[N, 2] multiplier, float[N, 2] zero_point, float[N, 1] scale) {{
      codes, multiplier, zero_point, scale = qcompiler.BlockQuantizeLinear
        <bits = {bits}, block = 2, clip: float = 1.0, slack: float = {slack}, shared = 0, rotate = 1> (X)
    }}"""
    model = onnx.parser.parse_model(text)
    model.functions.extend(functions_for(["BlockQuantizeLinear"]))
    return model.SerializeToString()


@pytest.mark.parametrize("scale", [1.0, 0.7])
@pytest.mark.parametrize("slack", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("bits", range(2, 8))
def test_steps_are_counted_with_inverses(bits, slack, scale):
    """ONNX Runtime's DivMulFusion makes `a * (1 / b)` the quotient `a / b`, which is another float next to a step."""
    x = pairs(bits)[0] * F32(scale)
    expected = blocks.quantize(x, bits, 2, 1.0, slack)
    found = run(quantize_model(bits, slack), {"X": x}, optimize=True)
    np.testing.assert_array_equal(found[3], expected.scale)
    np.testing.assert_array_equal(found[1], expected.multiplier)
    np.testing.assert_array_equal(found[2], expected.zero_point)
    np.testing.assert_array_equal(found[0], expected.codes)


def test_quotients_would_count_other_steps():
    """The pairs above tell a quotient from a product with the inverse, in the multiplier and in the zero point."""
    x, top = pairs(4)
    width, depth = x[:, 3] - x[:, 2], -x[:, 2]
    multiplier = np.ceil(width * (F32(1) / F32(top)))
    assert np.any(multiplier != np.ceil(width / F32(top)))
    multiplier = np.clip(multiplier, 1, 15).astype(F32)
    assert np.any(np.rint(depth * (F32(1) / multiplier)) != np.rint(depth / multiplier))


# -- Whole operators, alone and before a LayerNormalization


def linear(family, part, mode):
    rng = np.random.default_rng(7)
    parts = dict(PARTS[part])
    if parts.pop("norm", False):
        parts |= {"norm": (rng.uniform(0.5, 2, 24).astype(F32), rng.normal(size=24).astype(F32)), "epsilon": 1e-6}
    if "gelu" in parts:
        parts["approximate"] = "none"
    rest = {
        "w_scale": rng.uniform(0.001, 0.02, 24).astype(F32),
        "w_blocks": random_blocks(rng, 3, 24),
        "bias": rng.normal(size=24).astype(F32),
        "bits": 4,
        **parts,
    }
    weight = random_weight(rng, 24, 24, False)
    if family == "BlockLinear":
        return block_node(weight, block=6, clip=0.97, slack=0.35, rotate=8, **rest)
    axis, segments = MODES[mode]
    groups = random_table(rng, mode, 4, 3)
    return linear_node(weight, groups, axis=axis, segments=segments, normalize=1, **rest)


def attention(family, bias):
    rng = np.random.default_rng(8)
    p_groups = probability_table(rng, len(LEVELS), 3)
    rest = {"num_heads": 2, "scale": float(F32(12**-0.5))}
    rest["bias"] = rng.normal(size=(1, 2, 160, 160)).astype(F32) if bias else False
    if family == "BlockAttention":
        return block_attention_node(p_groups, LEVELS, qk_bits=4, v_bits=5, block=6, clip=0.97, slack=0.35, **rest)
    tables = [random_table(rng, "bytes", 4, 3) for _ in range(3)]
    return attention_node([*tables, p_groups], LEVELS, bits=4, **rest)


CASES = {
    **{f"BlockLinear-{part}": (linear, "BlockLinear", part, "") for part in PARTS},
    **{f"GroupLinear-{part}-{mode}": (linear, "GroupLinear", part, mode) for part in PARTS for mode in MODES},
    **{f"{f}-{b}": (attention, f, b) for f in ("BlockAttention", "GroupAttention") for b in (False, True)},
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def case(request):
    """A model of fixed shapes, with which ONNX Runtime fuses the most, and its inputs."""
    make, *arguments = request.param
    node = make(*arguments)
    rng = np.random.default_rng(9)
    widths = {"X": 24, "residual": 24, "QKV": 72}
    names = [name for name in node.inputs if name not in node.constants]
    feeds = {name: rng.normal(size=(*TOKENS[:2], widths[name])).astype(F32) for name in names}
    shapes = {name: list(value.shape) for name, value in feeds.items()}
    return onnx.load_from_string(node.model(shapes, functions_for([node.op]))), feeds


def test_alone(case):
    model, feeds = case
    text = model.SerializeToString()
    np.testing.assert_array_equal(run(text, feeds, optimize=True)[0], run(text, feeds)[0])


def test_before_a_layer_normalization(case):
    """ONNX Runtime's SkipLayerNormFusion puts a sum and the normalisation in one kernel, which adds up differently."""
    model, feeds = onnx.ModelProto.FromString(case[0].SerializeToString()), case[1]
    rng = np.random.default_rng(10)
    constants = {"after_gamma": rng.uniform(0.5, 2, 24), "after_beta": rng.normal(size=24)}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(value.astype(F32), name) for name, value in constants.items()
    )
    model.graph.node.append(onnx.helper.make_node("LayerNormalization", ["Y", *constants], ["Z"], epsilon=1e-6))
    model.graph.output[0].name = "Z"
    text = model.SerializeToString()
    np.testing.assert_array_equal(run(text, feeds, optimize=True)[0], run(text, feeds)[0])
