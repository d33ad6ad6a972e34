"""Models of one lowered operator, with weights as the compiler's own quantizers make them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from qcompiler.ir.functions import DOMAIN
from qcompiler.ir.integer_weights import WIDEST_INT4, packed_int4
from qcompiler.latency.float_layers import Feed, attention_feed, linear_feed, one_layer_model, score_bias
from qcompiler.latency.kinds import BLOCKS, CHANNELS, ROW_GROUPS, SEGMENTS, AttentionKind, Kind, LinearKind
from qcompiler.quant.groups import F32, OPERAND_LIMIT
from qcompiler.quant.levels import codebook_levels, uniform_levels
from qcompiler.quant.weight_grid import WeightBlocks, block_grid, channel_grid
from qcompiler.quant.weights import round_to_nearest

BLOCK = 32  # channels of a block, of tokens and of weights, where it divides the layer's
ROTATE = 32
RANGE = 4.0  # standard deviations that the codes of the widest group cover
TILE = 64  # outputs that are quantized in earnest; more would only take longer


def lowered_layer(kind: Kind) -> tuple[bytes, Feed]:
    """A serialized model of one operator with random weights, and an input for it."""
    return _linear(kind) if isinstance(kind, LinearKind) else _attention(kind)


def _linear(kind: LinearKind) -> tuple[bytes, Feed]:
    shape = kind.shape
    feed = linear_feed(shape)
    inputs = ["X", *(["gamma", "beta"] if shape.norm else []), "W", "w_scale", "w_blocks"]
    codes, blocks = _weight(shape.channels, shape.outputs, kind.weight_bits, kind.weight_blocks)
    constants: dict[str, NDArray[Any]] = {
        "w_scale": np.full(shape.outputs, 0.01, np.float32),
        "w_blocks": blocks,
        "bias": np.zeros(shape.outputs, np.float32),
    }
    attributes: dict[str, Any] = {"bits": kind.activation_bits}
    if kind.scheme == BLOCKS:
        block = _dividing(shape.channels, BLOCK) if kind.cut else shape.channels
        rotate = _dividing(shape.channels, ROTATE) if kind.rotate else 1
        attributes |= {"block": block, "clip": 1.0, "slack": 0.25, "rotate": rotate}
    else:
        inputs.append("groups")
        constants["groups"] = _groups(kind.scheme, kind.activation_bits, kind.groups)
        axis, segments = -2 if kind.scheme == ROW_GROUPS else -1, int(kind.scheme == SEGMENTS)
        attributes |= {"axis": axis, "segments": segments, "normalize": int(kind.normalize)}
    inputs += ["bias", *(["residual"] if shape.residual else [])]
    if shape.norm:
        constants |= {"gamma": np.ones(shape.channels, np.float32), "beta": np.zeros(shape.channels, np.float32)}
        attributes["epsilon"] = 1e-5
    op = ("LayerNorm" if shape.norm else "") + ("BlockLinear" if kind.scheme == BLOCKS else "GroupLinear")
    if shape.gelu is not None:
        attributes["approximate"] = shape.gelu
        op += "Gelu"
    elif shape.residual:
        op += "Add"
    tensors = [numpy_helper.from_array(x, name) for name, x in constants.items()]
    tensors.append(_stored("W", codes, kind.weight_bits))
    node = helper.make_node(op, inputs, ["Y"], name="layer", domain=DOMAIN, **attributes)
    return one_layer_model([node], feed, tensors, (DOMAIN,)), feed


def _attention(kind: AttentionKind) -> tuple[bytes, Feed]:
    shape = kind.shape
    constants: dict[str, NDArray[Any]] = {}
    attributes: dict[str, Any] = {"num_heads": shape.heads, "scale": float(shape.head_dim**-0.5)}
    if kind.in_blocks:
        attributes |= {"qk_bits": kind.qk_bits, "v_bits": kind.value_bits, "block": shape.head_dim}
        attributes |= {"clip": 1.0, "slack": 0.25}
    else:
        attributes["bits"] = kind.qk_bits
        constants |= {f"{name}_groups": _groups(ROW_GROUPS, kind.qk_bits, kind.groups, signed=True) for name in "qkv"}
    levels = uniform_levels(kind.value_bits)
    if kind.codebook:
        levels = codebook_levels(np.linspace(0, 1, 1000, dtype=np.float32) ** 4, kind.value_bits)
    constants |= {"p_groups": _probability_groups(kind.groups, len(levels)), "levels": levels}
    if shape.bias:
        constants["bias"] = score_bias(shape)
    op = ("BlockAttention" if kind.in_blocks else "GroupAttention") + ("Bias" if shape.bias else "")
    node = helper.make_node(op, ["QKV", *constants], ["Y"], name="layer", domain=DOMAIN, **attributes)
    feed = attention_feed(shape)
    tensors = [numpy_helper.from_array(x, name) for name, x in constants.items()]
    return one_layer_model([node], feed, tensors, (DOMAIN,)), feed


@cache
def _weight(channels: int, outputs: int, bits: int, blocks: bool) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
    """Codes ``[C, D]`` and the packed multiples of their blocks, of normal weights: their operands count, too."""
    weight = np.random.default_rng(2).standard_normal((channels, min(outputs, TILE)), np.float32)
    grid = block_grid(weight, bits, _dividing(channels, BLOCK)) if blocks else channel_grid(weight, bits)
    found = round_to_nearest(weight, grid)
    plain = WeightBlocks(np.ones((1, weight.shape[1]), np.uint8), np.zeros((1, weight.shape[1]), np.int8))
    repeats = -(-outputs // weight.shape[1])
    packed = (found.blocks or plain).packed()
    return (
        np.ascontiguousarray(np.tile(found.codes, repeats)[:, :outputs]),
        np.ascontiguousarray(np.tile(packed, repeats)[:, :outputs]),
    )


def _stored(name: str, codes: NDArray[np.int8], bits: int) -> onnx.TensorProto:
    if bits > WIDEST_INT4:
        return numpy_helper.from_array(codes, name)
    return helper.make_tensor(name, TensorProto.INT4, codes.shape, packed_int4(codes), raw=True)


def _dividing(channels: int, most: int) -> int:
    """The largest power of two up to ``most`` that divides the channels."""
    return min(channels & -channels, most)


def _groups(scheme: str, bits: int, count: int, *, signed: bool = False) -> F32:
    """A table of groups from narrow to wide; ``signed``: the zero point lies in the middle of a signed byte."""
    top = 2**bits - 1
    zero = 2 ** (bits - 1) if signed else top // 2 + 1
    number = np.arange(count, dtype=np.float32)
    width = np.float32(RANGE) * (1 + number) / count  # of either half
    scale = width / np.float32(zero)
    multiplier, outer = np.ones_like(scale), scale
    if scheme == CHANNELS:
        multiplier = 1 + number % (OPERAND_LIMIT // zero)
        outer = np.full_like(scale, RANGE / zero / multiplier.max())
        scale = multiplier * outer
    elif scheme == SEGMENTS:
        multiplier, outer = scale, np.ones_like(scale)
    return np.stack([-width, width, scale, np.full_like(scale, zero), multiplier, outer], axis=1).astype(np.float32)


def _probability_groups(count: int, levels: int) -> F32:
    """Row groups of probabilities by their largest value."""
    upper = (1 + np.arange(count, dtype=np.float32)) / count
    scale = upper / np.float32(levels - 1)
    zeros, ones = np.zeros_like(scale), np.ones_like(scale)
    return np.stack([zeros, upper, scale, zeros, ones, scale], axis=1)
