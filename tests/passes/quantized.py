"""Plans and quantized graphs for the tests of QUANTIZE and LOWER."""

import numpy as np
import onnx

from qcompiler.ir.functions import DOMAIN, functions_for
from qcompiler.ir.saving import to_model
from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.groups import GroupTable
from qcompiler.quant.weight_grid import WeightBlocks
from qcompiler.quant.weights import QuantizedWeight

from ..runtime_ops import blocks, normalized
from .helpers import applied, model_of, run

F32 = np.float32

# Rows (lower, upper, scale, zero_point, multiplier, outer), for values around 1; the codes have 4 bits.
ROWS = np.array([(-1, 1, 0.15, 7, 1, 0.15), (-3, 2, 0.35, 9, 1, 0.35)], F32)
CHANNELS = np.array([(-1, 1, 0.125, 8, 1, 0.125), (-3, 3, 0.375, 8, 3, 0.125)], F32)
SEGMENTS = np.array([(-1, 1, 0.15, 7, 0.15, 1), (-3, 2, 0.35, 9, 0.35, 1)], F32)
SYMMETRIC = np.array([(-1, 1, 0.15, 8, 1, 0.15), (-3, 3, 0.4, 8, 1, 0.4)], F32)
PROBABILITIES = np.array([(0, 0.4, 0.03, 0, 1, 0.03), (0, 0.9, 0.06, 0, 1, 0.06)], F32)
CODEBOOK = np.repeat(np.arange(0, 128, 8, dtype=np.uint8), 8)  # 128 indices, 16 operands
CODEBOOK_PROBABILITIES = np.array([(0, 0.4, 0.4 / 127, 0, 1, 0.4 / 127), (0, 0.9, 0.9 / 127, 0, 1, 0.9 / 127)], F32)

# mode: table, axis, segments
LINEARS = {"rows": (ROWS, -2, 0), "channels": (CHANNELS, -1, 0), "segments": (SEGMENTS, -1, 1)}
# Every quantizer of a layer's input, with and without row norms where there is a choice.
INPUTS = [*((mode, normalize) for mode in LINEARS for normalize in (0, 1)), ("blocks", 0)]

# Element types of the outputs, where they are not all float.
_TYPES = {
    "GroupSort": [onnx.TensorProto.INT64],
    "GroupQuantizeLinear": [onnx.TensorProto.UINT8],
    "BlockQuantizeLinear": [onnx.TensorProto.UINT8, *[onnx.TensorProto.FLOAT] * 3],
}


def table(array, axis, bits=4):
    return GroupTable.from_array(array, axis, bits)


def block_attributes(block):
    """Attributes of the operators with blocks; pairs of channels are rotated where blocks have an even number."""
    return {"bits": 4, "block": block, "clip": 0.875, "slack": 0.25, "rotate": 1 + (block % 2 == 0)}


def block_quantizer(block):
    return BlockQuantizer(**block_attributes(block))


def weight_codes(channels, outputs, seed=0, count=0):
    """Codes of 4 bits and their scales, and `count` blocks of input channels whose operands fit a signed byte."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-7, 8, (channels, outputs)).astype(np.int8)
    scale = rng.uniform(0.05, 0.2, outputs).astype(F32)
    if not count:
        return QuantizedWeight(codes, scale, 4)
    shape = (count, outputs)
    found = WeightBlocks(rng.integers(1, 13, shape).astype(np.uint8), rng.integers(-3, 4, shape).astype(np.int8))
    return QuantizedWeight(codes, scale, 4, found)


def block_bytes(weight):
    """The input `w_blocks` of an operator."""
    if weight.blocks is None:
        return np.full((1, len(weight.scale)), 0x18, np.uint8)
    return (16 * weight.blocks.multiplier.astype(int) + weight.blocks.zero_point + 8).astype(np.uint8)


def lowered(op, mode, normalize, block, x="x", more="", last=""):
    """The node of a lowered layer as text, with more attributes and inputs behind its own."""
    if mode == "blocks":
        attributes = ", ".join(f"{name} = {value}" for name, value in block_attributes(block).items()) + more
        return f"qcompiler.{op.replace('Group', 'Block')} <{attributes}> ({x}, w, w_scale, w_blocks, b{last})"
    _, axis, segments = LINEARS[mode]
    attributes = f"bits = 4, axis = {axis}, segments = {segments}, normalize = {normalize}{more}"
    return f"qcompiler.{op} <{attributes}> ({x}, w, w_scale, w_blocks, groups, b{last})"


def layer_constants(mode, weight, bias):
    """The initialisers that `lowered` names."""
    groups = {} if mode == "blocks" else {"groups": LINEARS[mode][0]}
    return {"w": weight.codes, "w_scale": weight.scale, "w_blocks": block_bytes(weight), "b": bias, **groups}


def defined(x, weight, bias, mode, normalize, block):
    """What the definition of the fused operator says of a layer, and how far that may move (`check_near`)."""
    rest = {"w_blocks": block_bytes(weight), "weight": weight.codes, "w_scale": weight.scale, "bias": bias}
    if mode == "blocks":
        return blocks.linear(x, **rest, **block_attributes(block))
    groups, axis, segments = LINEARS[mode]
    divided = normalized.divide_rows(x)[0] if normalize else x
    assert not normalized.is_ambiguous(divided, groups, axis)
    return normalized.linear(x, **rest, groups=groups, bits=4, axis=axis, segments=segments, normalize=normalize)


def quantized_model(text, int4=None, **initialisers):
    """A model with operators of this project; `int4` maps names of initialisers to their codes."""
    model = model_of(text, **initialisers)
    model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    for name, codes in (int4 or {}).items():
        model.graph.initializer.append(onnx.helper.make_tensor(name, onnx.TensorProto.INT4, codes.shape, codes.ravel()))
    # Operators of this project have no type rules: the pass that makes them writes the types, here the test does.
    known = {item.name for item in [*model.graph.output, *model.graph.value_info]}
    for node in model.graph.node:
        kinds = _TYPES.get(node.op_type, [onnx.TensorProto.FLOAT] * len(node.output))
        for name, kind in zip(node.output, kinds, strict=True) if node.domain == DOMAIN else ():
            if name not in known:
                model.graph.value_info.append(onnx.helper.make_tensor_value_info(name, kind, None))
    return model


def with_bodies(model):
    model.functions.extend(functions_for(node.op_type for node in model.graph.node if node.domain == DOMAIN))
    if model.functions and all(item.domain != DOMAIN for item in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    return model


def outputs_after(pass_type, model, **feeds):
    """What the model returns after the pass, on the operators' bodies; the library and optimisations are not used."""
    graph, report = applied(pass_type, model)
    assert report.applied > 0
    after = with_bodies(to_model(graph))
    onnx.checker.check_model(after)
    return run(after, feeds)


def check_near(y, expected, slack, relative):
    """Equal up to codes next to a rounding boundary (`slack`), and to `relative` of the largest value."""
    assert y.shape == expected.shape
    assert np.mean(slack == 0) > 0.1, "the case must hold outputs that are fixed"
    assert np.all(np.abs(y - expected) <= 1.001 * slack + relative * np.abs(expected).max())


def check_same(pass_type, model, relative, **feeds):
    """The model returns the same before and after the pass, up to `relative` of the largest value."""
    before = onnx.ModelProto()
    before.CopyFrom(model)
    after = outputs_after(pass_type, model, **feeds)
    for expected, got in zip(run(with_bodies(before), feeds), after, strict=True):
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() <= relative * np.abs(expected).max()
