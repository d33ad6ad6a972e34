"""Every wrong shape, type, attribute or table is one clear line, never a crash and never a silent result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .nodes import (
    F32,
    Node,
    attention_node,
    block_attention_node,
    block_node,
    linear_node,
    one_group,
    one_segment,
    probability_table,
    table,
)

X = np.zeros((1, 5, 4), F32)
W = np.eye(4, 3, dtype=np.int8)
IDENTITY = np.arange(256, dtype=np.uint8)


def changed(node: Node, constants: dict[str, np.ndarray] | None = None, **attributes: Any) -> Node:
    """`node` with other constants and attributes; the value None removes an attribute."""
    node.constants.update(constants or {})
    node.attributes.update(attributes)
    node.attributes = {name: value for name, value in node.attributes.items() if value is not None}
    return node


def linear(groups: np.ndarray | None = None, constants: dict[str, np.ndarray] | None = None, **attributes: Any) -> Node:
    return changed(linear_node(W, one_group() if groups is None else groups), constants, **attributes)


def blocks(**attributes: Any) -> Node:
    return changed(block_node(W, bits=4, block=2), **attributes)


def gelu(**attributes: Any) -> Node:
    return changed(linear_node(W, one_group(), gelu=True), **attributes)


def norm(**constants: np.ndarray) -> Node:
    return changed(linear_node(W, one_group(), norm=(np.ones(4, F32), np.zeros(4, F32))), constants)


def blocks_with(**constants: np.ndarray) -> Node:
    return changed(blocks(), constants)


def epsilon(value: float) -> Node:
    return changed(norm(), epsilon=value)


def attention(constants: dict[str, np.ndarray] | None = None, bias: Any = False, **attributes: Any) -> Node:
    tables = [one_group(), one_group(), one_group(), probability_table(np.random.default_rng(0), 256, 2)]
    return changed(attention_node(tables, IDENTITY, num_heads=2, scale=0.5, bits=8, bias=bias), constants, **attributes)


def block_attention(constants: dict[str, np.ndarray] | None = None, bias: Any = False, **attributes: Any) -> Node:
    p_groups = probability_table(np.random.default_rng(0), 256, 2)
    widths = {"num_heads": 2, "scale": 0.5, "qk_bits": 4, "v_bits": 4, "block": 5}
    return changed(block_attention_node(p_groups, IDENTITY, bias=bias, **widths), constants, **attributes)


CREATION = {
    "weight rank": (
        linear(constants={"W": np.zeros(4, np.int8)}),
        r"'W' has shape \[4\], expected \[channels, outputs\]",
    ),
    "weight empty": (linear(constants={"W": np.zeros((4, 0), np.int8)}), "both positive"),
    "w_scale": (linear(constants={"w_scale": np.ones(4, F32)}), r"'w_scale' has shape \[4\], expected \[3\]"),
    "w_blocks": (
        linear(constants={"w_blocks": np.full((1, 4), 0x18, np.uint8)}),
        r"'w_blocks' has shape \[1, 4\], expected \[blocks, 3\] with a number of blocks that divides the 4 channels",
    ),
    "w_blocks rank": (linear(constants={"w_blocks": np.full(3, 0x18, np.uint8)}), r"'w_blocks' has shape \[3\]"),
    "w_blocks empty": (linear(constants={"w_blocks": np.zeros((0, 3), np.uint8)}), r"'w_blocks' has shape \[0, 3\]"),
    "w_blocks count": (
        linear(constants={"w_blocks": np.full((3, 3), 0x18, np.uint8)}),
        r"'w_blocks' has shape \[3, 3\], expected \[blocks, 3\]",
    ),
    "weight multiplier": (
        linear(constants={"w_blocks": np.array([[0x18] * 3, [0x18, 0xF0, 0x0F]], np.uint8)}),
        "block 1 of the weights of output 2 has multiplier 0, expected 1 to 15",
    ),
    "block bits": (blocks(bits=8), "attribute 'bits' is 8, expected 2 to 7"),
    "block bits missing": (blocks(bits=None), "attribute 'bits' is missing"),
    "block": (blocks(block=3), "attribute 'block' is 3, expected a divisor of the 4 channels"),
    "block zero": (blocks(block=0), "attribute 'block' is 0, expected a divisor"),
    "block missing": (blocks(block=None), "attribute 'block' is missing"),
    "clip": (blocks(clip=1.5), "attribute 'clip' is 1.5, expected a number above 0 and up to 1"),
    "clip zero": (blocks(clip=0.0), "attribute 'clip' is 0, expected a number above 0"),
    "slack": (blocks(slack=0.6), "attribute 'slack' is 0.6[0-9]*, expected a number from 0 to 0.5"),
    "slack negative": (blocks(slack=-0.5), "attribute 'slack' is -0.5, expected a number from 0"),
    "slack missing": (blocks(slack=None), "attribute 'slack' is missing"),
    "rotate": (
        blocks(rotate=3),
        "attribute 'rotate' is 3, expected a power of two up to 128 that divides the 4 channels",
    ),
    "rotate zero": (blocks(rotate=0), "attribute 'rotate' is 0, expected a power of two"),
    "rotate channels": (blocks(rotate=8), "attribute 'rotate' is 8, expected a power of two"),
    "rotate far": (
        changed(block_node(np.eye(256, 3, dtype=np.int8), bits=4, block=2, rotate=256)),
        "attribute 'rotate' is 256, expected a power of two up to 128",
    ),
    "rotate missing": (blocks(rotate=None), "attribute 'rotate' is missing"),
    "clip missing": (blocks(clip=None), "attribute 'clip' is missing"),
    "bias": (linear(constants={"bias": np.ones((1, 3), F32)}), r"'bias' has shape \[1, 3\], expected \[3\]"),
    "bias not finite": (linear(constants={"bias": np.array([0, np.inf, 0], F32)}), "'bias' holds NaN or infinity"),
    "w_scale not finite": (blocks_with(w_scale=np.array([1, np.nan, 1], F32)), "'w_scale' holds NaN or infinity"),
    "beta not finite": (norm(beta=np.full(4, -np.inf, F32)), "'beta' holds NaN or infinity"),
    "epsilon": (epsilon(-1e-5), "attribute 'epsilon' is -9.99999975e-06, expected a number from 0"),
    "epsilon not finite": (epsilon(float("inf")), "attribute 'epsilon' is inf, expected a number from 0"),
    "epsilon type": (epsilon(1), "attribute 'epsilon' has the wrong type"),
    "segments type": (linear(segments=1.0), "attribute 'segments' has the wrong type"),
    "normalize type": (linear(normalize=[1, 0]), "attribute 'normalize' has the wrong type"),
    "approximate type": (gelu(approximate=1), "attribute 'approximate' has the wrong type"),
    "newer operators": (
        linear(version=2),
        r"the model uses version 2 of the qcompiler operators, and this library, of qcompile \S+, knows version 1; "
        "install a newer one, or run the model without the library",
    ),
    "older operators": (block_attention(version=0), "version 0 .* install the qcompile that wrote the model"),
    "gamma": (norm(gamma=np.ones(3, F32)), r"'gamma' has shape \[3\], expected \[4\]"),
    "table width": (linear(np.ones((2, 5), F32)), r"'groups' has shape \[2, 5\], expected \[groups, 6\]"),
    "table empty": (linear(np.ones((0, 6), F32)), r"expected \[groups, 6\]"),
    "bounds": (linear(table([(np.nan, 1, 1, 128, 1, 1)])), "group 0: its bounds are not finite"),
    "scale zero": (linear(table([(-1, 1, 0, 128, 1, 0)])), "scale is 0, expected a positive number"),
    "scale tiny": (linear(table([(-1, 1, 1e-39, 128, 1, 1e-39)])), "finite inverse"),
    "zero point fraction": (linear(one_group(1.0, 127.5)), "zero_point is 127.5, expected an integer from 0 to 255"),  # type: ignore[arg-type]
    "zero point range": (linear(one_group(1.0, 16), bits=4), "zero_point is 16, expected an integer from 0 to 15"),
    "operand": (attention({"k_groups": one_group(1.0, 0)}), "'k_groups', group 0: operands reach 255, more than 127"),
    "8 bits of multiples": (linear(one_group(), axis=-1), "operands reach 128, more than 127"),
    "multiplied operand": (linear(table([(-1, 1, 9, 0, 9, 1)]), bits=4, axis=-1), "operands reach 135, more than 127"),
    "multiplier": (
        linear(table([(-1, 1, 1.5, 8, 1.5, 1)]), bits=4, axis=-1),
        r"multiplier is 1.5, expected a positive integer \(or segments=1\)",
    ),
    "two outer scales": (
        linear(table([(-1, 1, 1, 8, 1, 1), (-1, 1, 2, 8, 1, 2)]), bits=4, axis=-1),
        "group 1: outer is 2, expected one outer scale",
    ),
    "scale of a multiple": (linear(table([(-1, 1, 1, 8, 2, 1)]), bits=4, axis=-1), r"expected outer \* multiplier"),
    "row multiplier": (linear(table([(-1, 1, 2, 8, 2, 1)]), bits=4), "multiplier is 2, expected 1"),
    "row outer": (linear(table([(-1, 1, 2, 8, 1, 1)]), bits=4), "outer is 1, expected the scale 2"),
    "segment outer": (linear(one_group(2.0), axis=-1, segments=1), "outer is 2, expected 1 with segments=1"),
    "segment multiplier": (
        linear(table([(-1, 1, 2, 128, 1, 1)]), axis=-1, segments=1),
        "multiplier is 1, expected the scale 2",
    ),
    "bits missing": (linear(bits=None), "attribute 'bits' is missing"),
    "bits": (linear(bits=9), "attribute 'bits' is 9, expected 1 to 8"),
    "axis": (linear(axis=1), "attribute 'axis' is 1, expected -1"),
    "segments": (linear(one_segment(), axis=-1, segments=2), "attribute 'segments' is 2, expected 0 or 1"),
    "segments of rows": (linear(segments=1), "segments=1 needs axis=-1"),
    "approximate": (gelu(approximate="sigmoid"), "attribute 'approximate' is 'sigmoid', expected 'none' or 'tanh'"),
    "heads": (attention(num_heads=0), "attribute 'num_heads' is 0"),
    # Three times this number of heads is 2 in 64 bits.
    "heads that overflow": (attention(num_heads=0x5555555555555556), "attribute 'num_heads' is 6148914691236517206"),
    "heads of blocks that overflow": (block_attention(num_heads=2**62), "expected a number from 1 to 65536"),
    "scale missing": (attention(scale=None), "attribute 'scale' is missing"),
    "scale not finite": (attention(scale=float("nan")), "attribute 'scale' is nan, expected a finite number"),
    "q table": (attention({"q_groups": np.ones((1, 4), F32)}), r"'q_groups' has shape \[1, 4\]"),
    "p zero point": (
        attention({"p_groups": table([(0, 1, 1, 3, 1, 1)])}),
        "zero_point is 3, expected 0 for probabilities",
    ),
    "levels": (attention({"levels": np.zeros(257, np.uint8)}), r"'levels' has shape \[257\]"),
    "qk_bits": (block_attention(qk_bits=8), "attribute 'qk_bits' is 8, expected 2 to 7"),
    "v_bits": (block_attention(v_bits=1), "attribute 'v_bits' is 1, expected 2 to 7"),
    "v_bits missing": (block_attention(v_bits=None), "attribute 'v_bits' is missing"),
    "block of a head": (block_attention(block=-1), "attribute 'block' is -1, expected a positive number"),
    "clip of a head": (block_attention(clip=0.0), "attribute 'clip' is 0, expected a number above 0"),
    "slack of a head": (block_attention(slack=1.0), "attribute 'slack' is 1, expected a number from 0 to 0.5"),
    "heads of blocks": (block_attention(num_heads=-2), "attribute 'num_heads' is -2"),
    "p table of blocks": (block_attention({"p_groups": np.ones((1, 4), F32)}), r"'p_groups' has shape \[1, 4\]"),
    "levels of blocks": (block_attention({"levels": np.zeros(0, np.uint8)}), r"'levels' has shape \[0\]"),
}


@pytest.mark.parametrize("name", CREATION)
def test_creation(library: str, name: str) -> None:
    """Seen when the session is created; the message names the operator and its node."""
    node, message = CREATION[name]
    with pytest.raises(Exception, match=message) as caught:
        node.session()
    assert f"{node.op} 'layer': " in str(caught.value)


QKV = np.zeros((4, 7, 3 * 2 * 5), F32)
RUN = {
    "channels": (linear(), {"X": np.zeros((1, 5, 6), F32)}, r"'X' has shape \[1, 5, 6\], but W takes 4 channels"),
    "channels of blocks": (
        blocks(),
        {"X": np.zeros((1, 5, 6), F32)},
        r"'X' has shape \[1, 5, 6\], but W takes 4 channels",
    ),
    "rank": (
        linear_node(W, one_group(), rank=1),
        {"X": np.zeros(4, F32)},
        r"'X' has shape \[4\], expected \[..., tokens, channels\]",
    ),
    "residual": (
        linear_node(W, one_group(), residual=True),
        {"X": X, "residual": np.zeros((1, 4, 3), F32)},
        r"'residual' has shape \[1, 4, 3\], expected the output's \[1, 5, 3\]",
    ),
    "qkv width": (
        attention(),
        {"QKV": np.zeros((1, 7, 32), F32)},
        r"'QKV' has shape \[1, 7, 32\], expected \[batch, tokens, 3 \* 2 heads",
    ),
    "bias shape": (
        attention(bias=True),
        {"QKV": QKV, "bias": np.zeros((1, 2, 7, 6), F32)},
        r"'bias' has shape \[1, 2, 7, 6\]",
    ),
    "bias heads": (
        attention(bias=True),
        {"QKV": QKV, "bias": np.zeros((1, 3, 7, 7), F32)},
        r"expected \[windows, 2 or 1, 7, 7\]",
    ),
    "qkv width in blocks": (
        block_attention(),
        {"QKV": np.zeros((1, 7, 24), F32)},
        r"'QKV' has shape \[1, 7, 24\], but attribute 'block' is 5, which does not divide the 4 channels of a head",
    ),
    "bias of blocks": (
        block_attention(bias=True),
        {"QKV": QKV, "bias": np.zeros((1, 3, 7, 7), F32)},
        r"expected \[windows, 2 or 1, 7, 7\]",
    ),
    "bias windows": (
        attention(bias=True),
        {"QKV": QKV, "bias": np.zeros((3, 1, 7, 7), F32)},
        "3 windows, which do not divide the batch of 4",
    ),
}


@pytest.mark.parametrize("name", RUN)
def test_run(library: str, name: str) -> None:
    """Seen with the input that does not fit; the session goes on working."""
    node, feeds, message = RUN[name]
    session = node.session()
    for _ in range(2):
        with pytest.raises(Exception, match=message):
            session.run(None, feeds)


def test_constant_that_is_computed(library: str) -> None:
    """A table that arrives at run time cannot be packed."""
    node = linear_node(W, one_group())
    del node.constants["w_scale"]
    with pytest.raises(Exception, match="input 'w_scale' must be a constant"):
        node.session()


def test_weight_type(library: str) -> None:
    """ONNX Runtime itself refuses a type that no operator was registered for."""
    node = linear_node(W, one_group())
    node.constants["W"] = W.astype(np.uint8)
    object.__setattr__(node, "int4", False)
    with pytest.raises(Exception, match="uint8"):
        node.session()
