"""The bodies of block multiples in plain ONNX Runtime and in ONNX's reference, against the definition in NumPy."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from ..runtime_ops import blocks, normalized, reference
from ..runtime_ops.nodes import (
    F32,
    MODES,
    block_node,
    linear_node,
    plain_blocks,
    random_blocks,
    random_table,
    random_weight,
)
from .bodies import BYTE, FLOAT, evaluate, inner, run_node

QUANTIZED = {"codes": BYTE, "multiplier": FLOAT, "zero_point": FLOAT, "scale": FLOAT}
SHAPES = {2: (9, 24), 3: (2, 7, 24), 4: (2, 3, 5, 24)}
FAMILY = {
    "BlockLinear": {},
    "BlockLinearGelu": {"gelu": True},
    "BlockLinearAdd": {"residual": True},
    "LayerNormBlockLinear": {"norm": True},
    "LayerNormBlockLinearGelu": {"norm": True, "gelu": True},
}


def tokens(seed, shape, block):
    """Rows of different sizes, blocks of different sizes and offsets, one row of zeros."""
    rng = np.random.default_rng(seed)
    parts = (*shape[:-1], shape[-1] // block)
    size = np.exp2(rng.uniform(-4, 3, parts))
    offset = rng.normal(size=parts) * rng.integers(0, 2, parts)
    x = (rng.normal(size=shape) * np.repeat(size, block, -1) + np.repeat(offset, block, -1)).astype(F32)
    x[(0,) * (len(shape) - 1)] = 0
    return x


def problem(seed, outputs, *, block, bits=4, clip=1.0, slack=0.25, rotate=1, int4=False, weight_blocks=3):
    rng = np.random.default_rng(seed)
    return {
        "weight": random_weight(rng, 24, outputs, int4),
        "w_scale": rng.uniform(0.001, 0.02, outputs).astype(F32),
        "w_blocks": random_blocks(rng, weight_blocks, outputs),
        "bias": rng.normal(size=outputs).astype(F32),
        "bits": bits,
        "block": block,
        "clip": float(F32(clip)),
        "slack": slack,
        "rotate": rotate,
    }


# -- Activations


@pytest.mark.parametrize("bits", range(2, 8))
@pytest.mark.parametrize(("clip", "slack", "shared"), [(1.0, 0.25, 0), (0.8, 0.0, 0), (1.0, 0.5, 0), (0.9, 0.25, 1)])
@pytest.mark.parametrize("block", [1, 8, 24])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=["rank2", "rank3", "rank4"])
def test_quantize(shape, block, clip, slack, shared, bits):
    """Codes and parameters bit by bit, and the readable form reads them back."""
    x = tokens(bits, shape, block)
    expected = blocks.quantize(x, bits, block, clip, slack, shared=bool(shared))
    attributes = {"bits": bits, "block": block, "clip": clip, "slack": slack, "shared": shared, "rotate": 1}
    codes, multiplier, zero_point, scale = inner("BlockQuantizeLinear", QUANTIZED, attributes, X=x)
    np.testing.assert_array_equal(codes, expected.codes)
    np.testing.assert_array_equal(multiplier, expected.multiplier)
    np.testing.assert_array_equal(zero_point, expected.zero_point)
    np.testing.assert_array_equal(scale, expected.scale)
    feeds = {"codes": codes, "multiplier": multiplier, "zero_point": zero_point}
    (operand,) = inner("BlockOperand", {"operand": FLOAT}, {}, **feeds)
    np.testing.assert_array_equal(operand, expected.values)
    (y,) = inner("BlockDequantizeLinear", {"Y": FLOAT}, {}, **feeds, scale=scale)
    np.testing.assert_array_equal(y, expected.values.astype(F32) * expected.scale)


@pytest.mark.parametrize(
    ("x", "codes", "multiplier", "zero_point"),
    [
        ((120, -120, 0, 8), (15, 0, 8, 9), 15, 8),  # 240 / 15 is beyond the largest multiplier; code 16 is clipped
        ((120, -68, 0, 7), (14, 0, 5, 6), 13, 5),
        ((33.75, 0, 0, 3), (15, 0, 0, 2), 2, 0),  # 2.25 steps, of which the slack takes the quarter
        ((33.8, 0, 0, 3), (11, 0, 0, 1), 3, 0),
        ((0.4, 0, -0.4, 0.6), (0, 0, 0, 1), 1, 0),  # less than one step
        ((100, 60, 100, 60), (14, 9, 14, 9), 7, 0),  # zero belongs to the range
        ((-100, -60, -100, -60), (0, 5, 0, 5), 7, 14),
        ((120, 4, 12, 20), (15, 0, 2, 2), 8, 0),  # 0.5, 1.5 and 2.5 steps go to even
        ((0, 0, 0, 0), (0, 0, 0, 0), 1, 0),
    ],
)
def test_quantize_by_hand(x, codes, multiplier, zero_point):
    """A first block with the magnitude 15 * 8 makes the scale 1."""
    row = np.array([120, 0, 0, 0, *x], F32)[None]
    attributes = {"bits": 4, "block": 4, "clip": 1.0, "slack": 0.25, "shared": 0, "rotate": 1}
    found = inner("BlockQuantizeLinear", QUANTIZED, attributes, X=row)
    np.testing.assert_array_equal(found[0][0, 4:], codes)
    assert (found[1][0, 1], found[2][0, 1], found[3][0, 0]) == (multiplier, zero_point, 1)


def test_operand_saturates():
    codes = np.array([[15, 0, 5, 6]], np.uint8)
    feeds = {"codes": codes, "multiplier": np.array([[13]], F32), "zero_point": np.array([[5]], F32)}
    (operand,) = inner("BlockOperand", {"operand": FLOAT}, {}, **feeds)
    np.testing.assert_array_equal(operand, [[127, -65, 0, 13]])


def test_rows_that_count_as_zeros():
    """The inverse of their scale would not be finite."""
    x = np.array([[0, -0.0], [1e-38, -1e-30], [2e-30, -1e-30]], F32)
    attributes = {"bits": 4, "block": 2, "clip": 1.0, "slack": 0.25, "shared": 0, "rotate": 1}
    found = inner("BlockQuantizeLinear", QUANTIZED, attributes, X=x)
    np.testing.assert_array_equal(found[3][:2], 1)
    np.testing.assert_array_equal(found[0][:2], 0)
    assert found[3][2] == F32(2e-30) / F32(120)
    assert found[0][2].max() == 15


def test_a_shared_scale():
    """The second image has a scale of its own; a token that is small beside the others keeps the multiplier 1."""
    x = np.array([[[120, 0], [-0.4, 0.6]], [[0, 0], [-240, 0]]], F32)
    attributes = {"bits": 4, "block": 2, "clip": 1.0, "slack": 0.25, "shared": 1, "rotate": 1}
    codes, multiplier, zero_point, scale = inner("BlockQuantizeLinear", QUANTIZED, attributes, X=x)
    np.testing.assert_array_equal(scale, [[[1]], [[2]]])
    np.testing.assert_array_equal(codes, [[[15, 0], [0, 1]], [[0, 0], [0, 15]]])
    np.testing.assert_array_equal(multiplier[..., 0], [[8, 1], [1, 8]])
    np.testing.assert_array_equal(zero_point[..., 0], [[0, 0], [0, 15]])


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 32, 64, 128])
def test_rotation(size):
    """Bit by bit; any leading axes."""
    rng = np.random.default_rng(size)
    for shape in ((2, 3 * size), (5, size), (2, 1, 3, 2 * size)):
        x = rng.normal(size=shape).astype(F32)
        (y,) = inner("RowRotate", {"Y": FLOAT}, {"rotate": size}, X=x)
        np.testing.assert_array_equal(y, blocks.rotate_rows(x, size))


def test_rotation_by_hand():
    x = np.array([[1, 2, 3, 4, 0, 0, 1, 0]], F32)
    for size, expected in ((2, [3, -1, 7, -1, 0, 0, 1, 1]), (4, [10, -2, -4, 0, 1, 1, -1, -1])):
        (y,) = inner("RowRotate", {"Y": FLOAT}, {"rotate": size}, X=x)
        np.testing.assert_array_equal(y, [expected])


@pytest.mark.parametrize(("block", "rotate"), [(8, 8), (3, 4), (24, 2)])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=["rank2", "rank3", "rank4"])
def test_rotate_and_quantize(shape, block, rotate):
    """Codes and parameters of the rotated rows."""
    x = tokens(block, shape, block)
    expected = blocks.quantize(x, 4, block, 0.9, 0.25, rotate=rotate)
    attributes = {"bits": 4, "block": block, "clip": float(F32(0.9)), "slack": 0.25, "shared": 0, "rotate": rotate}
    found = inner("BlockQuantizeLinear", QUANTIZED, attributes, X=x)
    for ours, theirs in zip(
        found, (expected.codes, expected.multiplier, expected.zero_point, expected.scale), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


# -- Weights


def test_every_byte():
    """All multipliers and zero points of all int4 weights; 15 * (7 + 8) saturates."""
    weight = np.repeat(np.arange(-8, 8, dtype=F32)[:, None], 240, axis=1)
    w_blocks = np.arange(16, 256, dtype=np.uint8)[None]
    (operand,) = inner("WeightOperand", {"operand": FLOAT}, {}, weight=weight, w_blocks=w_blocks)
    expected = [[max(-127, min(127, (b >> 4) * (w - ((b & 15) - 8)))) for b in range(16, 256)] for w in range(-8, 8)]
    np.testing.assert_array_equal(operand, expected)


@pytest.mark.parametrize("count", [1, 2, 6, 12])
def test_weight_operand(count):
    """Blocks are runs of input channels."""
    rng = np.random.default_rng(count)
    weight, w_blocks = random_weight(rng, 12, 5, False), random_blocks(rng, count, 5)
    (operand,) = inner("WeightOperand", {"operand": FLOAT}, {}, weight=weight.astype(F32), w_blocks=w_blocks)
    np.testing.assert_array_equal(operand, reference.weight_operands(weight, w_blocks))


def test_plain_weights():
    weight = np.arange(-127, 129, dtype=F32)[:255].reshape(51, 5)
    (operand,) = inner("WeightOperand", {"operand": FLOAT}, {}, weight=weight, w_blocks=plain_blocks(5))
    np.testing.assert_array_equal(operand, weight)


@pytest.mark.parametrize("kind", [onnx.TensorProto.INT4, onnx.TensorProto.INT8], ids=["int4", "int8"])
def test_weights_of_the_readable_form(kind):
    """DequantizeLinear in blocks along the channels, times w_scale: the operand's value where none saturates."""
    rng = np.random.default_rng(1)
    weight, zero_point = rng.integers(-4, 4, (12, 5)), rng.integers(-4, 4, (3, 5))
    multiplier, w_scale = rng.integers(1, 16, (3, 5)), rng.uniform(0.01, 0.1, 5).astype(F32)
    text = """<ir_version: 10, opset_import: ["" : 21]> readable () => (float[12, 5] y) {
        read = DequantizeLinear <axis = 0, block_size = 4> (w, m, z)
        y = Mul (read, s)
    }"""
    model = onnx.parser.parse_model(text)
    values = {"w": (kind, weight), "z": (kind, zero_point), "m": (FLOAT, multiplier), "s": (FLOAT, w_scale)}
    model.graph.initializer.extend(
        onnx.helper.make_tensor(name, element, value.shape, value.ravel()) for name, (element, value) in values.items()
    )
    (y,) = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {})
    operand = reference.weight_operands(weight, (multiplier << 4 | zero_point + 8).astype(np.uint8))
    np.testing.assert_array_equal(y, operand.astype(F32) * w_scale)


# -- Layers


@pytest.mark.parametrize("int4", [False, True], ids=["int8", "int4"])
@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize(("block", "rotate"), [(3, 1), (24, 8), (6, 4)])
def test_linear(rank, block, rotate, int4):
    """Bit by bit, in ONNX Runtime and in ONNX's reference."""
    rest = problem(rank, 11, block=block, clip=0.9, rotate=rotate, int4=int4)
    x = tokens(rank, SHAPES[rank], block)
    node = block_node(**rest, int4=int4, rank=rank)
    expected = blocks.linear(x, **rest)[0]
    for y in (run_node(node, {"X": x}), run_node(node, {"X": x}, optimize=True), evaluate(node, {"X": x})):
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("rotate", [1, 8])
def test_optimisations_change_no_code(rotate):
    """Many rows: a division in the place of a multiplication by the inverse moves one code in some thousand."""
    rest = problem(3, 4, block=6, clip=0.9, rotate=rotate)
    x = np.random.default_rng(1).normal(size=(1, 4000, 24)).astype(F32)
    y = run_node(block_node(**rest), {"X": x}, optimize=True)
    np.testing.assert_array_equal(y, blocks.linear(x, **rest)[0])


@pytest.mark.parametrize("int4", [False, True], ids=["int8", "int4"])
@pytest.mark.parametrize("mode", MODES)
def test_blocks_of_weights_in_the_grouped_family(mode, int4):
    """Free scales within 1e-5: the body adds rounded products of every channel, the definition one sum per group."""
    rng = np.random.default_rng(4)
    axis, segments = MODES[mode]
    rest = {
        name: value
        for name, value in problem(4, 11, block=1, int4=int4).items()
        if name not in ("block", "clip", "slack", "rotate")
    }
    rest |= {"groups": random_table(rng, mode, 4, 3), "axis": axis, "segments": segments, "normalize": 1}
    x = normalized.exact_rows(rng, (2, 7, 24), zero_rows=1)
    expected = normalized.linear(x, **rest)[0]
    node = linear_node(**rest, int4=int4)
    for y in (run_node(node, {"X": x}), run_node(node, {"X": x}, optimize=True), evaluate(node, {"X": x})):
        atol = 1e-5 * np.abs(expected).max() if segments else 0
        np.testing.assert_allclose(y, expected, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("op", "approximate"), [*((op, "none") for op in FAMILY), *((op, "tanh") for op in FAMILY if "Gelu" in op)]
)
def test_family(op, approximate):
    """What is fused in front and behind, with int4 weights, in ONNX Runtime and in ONNX's reference."""
    parts = dict(FAMILY[op])
    rng = np.random.default_rng(9)
    rest = problem(9, 13, block=6, bits=5, rotate=4, int4=True)
    feeds = {"X": tokens(9, (2, 8, 24), 6)}
    norm = (rng.uniform(0.5, 2, 24).astype(F32), rng.normal(size=24).astype(F32)) if parts.pop("norm", False) else None
    attributes = {"epsilon": 1e-6} if norm else {}
    attributes |= {"approximate": approximate} if "gelu" in parts else {}
    node = block_node(**rest, **parts, norm=norm, int4=True, **attributes)
    assert node.op == op
    prepared = reference.layer_norm(feeds["X"], *norm, 1e-6) if norm else feeds["X"]
    expected, slack = blocks.linear(prepared, **rest)
    if "gelu" in parts:
        expected, slack = reference.gelu(expected, approximate), 1.13 * slack  # the steepest slope of GELU
    if "residual" in parts:
        feeds["residual"] = rng.normal(size=expected.shape).astype(F32)
        expected = expected + feeds["residual"]
    assert np.mean(slack == 0) > 0.1, "the case must hold outputs that are fixed"
    results = [run_node(node, feeds)]
    if "gelu" not in parts:  # ONNX's reference does not implement Gelu
        results.append(evaluate(node, feeds))
    for y in results:
        assert np.all(np.abs(y - expected) <= slack + 1e-5 + 1e-5 * np.abs(expected))
