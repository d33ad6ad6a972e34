"""Operators on float16: what the same operator on float32 makes of the same values, rounded once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from qcompiler import runtime_ops

from .nodes import (
    F32,
    MODES,
    Node,
    attention_node,
    block_attention_node,
    block_node,
    linear_node,
    one_group,
    plain,
    probability_table,
    random_blocks,
    random_table,
    random_weight,
)

F16 = np.float16
CHANNELS, OUTPUTS, HEADS, HEAD_DIM, TOKENS = 48, 37, 2, 24, 19
PARTS = ((), ("gelu",), ("residual",), ("norm",), ("norm", "gelu"))


def constants(rng: np.random.Generator, int4: bool, parts: tuple[str, ...]) -> dict[str, Any]:
    """Weights, scales and parts of a layer."""
    found: dict[str, Any] = {
        "weight": random_weight(rng, CHANNELS, OUTPUTS, int4),
        "w_scale": rng.uniform(0.001, 0.02, OUTPUTS).astype(F32),
        "w_blocks": random_blocks(rng, 4, OUTPUTS),
        "bias": rng.normal(size=OUTPUTS).astype(F32),
        "int4": int4,
        **dict.fromkeys(parts, True),
    }
    if "norm" in parts:
        found["norm"] = (rng.uniform(0.5, 1.5, CHANNELS).astype(F32), rng.normal(size=CHANNELS).astype(F32))
    return found


def linear_nodes(int4: bool) -> Iterator[Node]:
    """Every operator of both families of layers, groups of tokens and of channels."""
    rng = np.random.default_rng(int(int4))
    for parts in PARTS:
        for mode, (axis, segments) in MODES.items():
            groups = random_table(rng, mode, 4, 5)
            yield linear_node(groups=groups, bits=4, axis=axis, segments=segments, **constants(rng, int4, parts))
        yield block_node(bits=4, block=16, rotate=4, **constants(rng, int4, parts))


def attention_nodes() -> Iterator[Node]:
    """All four operators, bias of scores as an input."""
    rng = np.random.default_rng(3)
    levels = np.arange(16, dtype=np.uint8)
    tables = [*(random_table(rng, "bytes", 4, 4) for _ in range(3)), probability_table(rng, 16, 4)]
    shared: dict[str, Any] = {"num_heads": HEADS, "scale": 0.2}
    for bias in (False, True):
        yield attention_node(tables, levels, bits=4, bias=bias, **shared)
        yield block_attention_node(tables[3], levels, qk_bits=4, v_bits=5, block=8, bias=bias, **shared)


def feeds(node: Node, batch: int = 3) -> dict[str, np.ndarray]:
    """Random float16 values of different sizes for the inputs that come at run time."""
    rng = np.random.default_rng(7)
    shapes = {
        "X": (batch, TOKENS, CHANNELS),
        "residual": (batch, TOKENS, OUTPUTS),
        "QKV": (batch, TOKENS, 3 * HEADS * HEAD_DIM),
        "bias": (1, HEADS, TOKENS, TOKENS),
    }
    names = [name for name in node.inputs if name not in node.constants]
    sizes = rng.uniform(0.2, 2, max(shape[-1] for shape in shapes.values()))
    return {name: (rng.normal(size=shapes[name]) * sizes[: shapes[name][-1]]).astype(F16) for name in names}


def in_float(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value.astype(F32) for name, value in values.items()}


def check_bits(got: np.ndarray, want: np.ndarray) -> None:
    """Equal bit for bit, but for the bits of NaN, which nothing defines."""
    assert got.dtype == want.dtype == F16
    nan = np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), nan)
    np.testing.assert_array_equal(got.view(np.uint16)[~nan], want.view(np.uint16)[~nan])


@pytest.mark.parametrize("int4", [False, True], ids=["int8", "int4"])
def test_layers(cpu_path: str, int4: bool) -> None:
    nodes = list(linear_nodes(int4))
    assert len({node.op for node in nodes}) == 10
    for node in nodes:
        values = feeds(node)
        check_bits(node.in_half().run(values), node.run(in_float(values)).astype(F16))


def test_attention(cpu_path: str) -> None:
    nodes = list(attention_nodes())
    assert len({node.op for node in nodes}) == 4
    for node in nodes:
        values = feeds(node)
        check_bits(node.in_half().run(values), node.run(in_float(values)).astype(F16))


def test_every_value_is_read(cpu_path: str) -> None:
    """As the residual of a layer that adds nothing but 2^-24, and nothing but 1: every bit of a value shows in one."""
    halves = np.arange(65536, dtype=np.uint16).view(F16).reshape(1, -1, 64)
    x = np.zeros((1, halves.shape[1], 4), F16)
    for added in (0.0, 2.0**-24, 1.0, -1.0):
        node = linear_node(np.zeros((4, 64), np.int8), one_group(), bias=np.full(64, added, F32), residual=True)
        with np.errstate(over="ignore", invalid="ignore"):
            want = (F32(added) + halves.astype(F32)).astype(F16)
        check_bits(node.in_half().run({"X": x, "residual": halves}), want)


def test_every_border_is_rounded(cpu_path: str) -> None:
    """Halfway between neighbours to the even one, next to that to the nearer one, from 65520 on to infinity."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(F16).astype(F32)
    borders = (halves[:-1] + halves[1:]) / F32(2)
    near = [np.nextafter(borders, F32(limit)) for limit in (0, np.inf)]
    last = np.array([65519.996, 65520, 65536, 1e6, 3e38, 1e-38, 1e-45], F32)
    values = np.concatenate([halves[1:], borders, *near, last])
    bias = np.concatenate([values, -values])
    node = linear_node(np.zeros((1, len(bias)), np.int8), one_group(), bias=bias)
    with np.errstate(over="ignore"):
        want = bias.astype(F16)
    check_bits(node.in_half().run({"X": np.zeros((1, 1, 1), F16)}).ravel(), want)


def test_not_a_number_stays_in_its_row(cpu_path: str) -> None:
    node = linear_node(random_weight(np.random.default_rng(0), 4, 5, False), **plain("rows"))
    x = np.ones((2, 3, 4), F16)
    want = node.in_half().run({"X": x})
    x[0, 1, 2] = np.nan
    got = node.in_half().run({"X": x})
    rows = np.array([True, False, True])
    check_bits(got[0, rows], want[0, rows])
    check_bits(got[1], want[1])


@pytest.mark.parametrize("shape", [(0, TOKENS), (2, 0)])
def test_nothing_to_do(library: str, shape: tuple[int, int]) -> None:
    for node in (*linear_nodes(True), *attention_nodes()):
        values = {name: np.zeros((*shape, value.shape[-1]), F16) for name, value in feeds(node).items()}
        if "bias" in values:
            values["bias"] = np.zeros((1, HEADS, shape[1], shape[1]), F16)
        y = node.in_half().run(values)
        assert y.dtype == F16 and y.shape[:2] == shape and y.size == 0


def test_batch_and_threads_change_nothing(library: str) -> None:
    for node in (*linear_nodes(True), *attention_nodes()):
        values = feeds(node, batch=5)
        one, many = node.in_half().session(1), node.in_half().session(3)
        together = one.run(None, values)[0]
        np.testing.assert_array_equal(many.run(None, values)[0], together)
        for index in range(5):
            alone = {name: value if name == "bias" else value[index : index + 1] for name, value in values.items()}
            np.testing.assert_array_equal(many.run(None, alone)[0][0], together[index])


def test_more_than_one_piece(library: str) -> None:
    """Conversions of large tensors are split between threads."""
    node = block_node(random_weight(np.random.default_rng(0), 64, 64, True), block=16, bits=4, int4=True)
    x = np.random.default_rng(1).normal(size=(3, 401, 64)).astype(F16)
    want = node.run({"X": x.astype(F32)}).astype(F16)
    for threads in (1, 2, 3):
        check_bits(node.in_half().run({"X": x}, threads), want)


@pytest.mark.parametrize("int4", [False, True], ids=["int8", "int4"])
def test_type_and_shape_are_inferred(library: str, int4: bool) -> None:
    """Two operators in a row, the tensor between them undeclared: its type comes from the operators themselves."""
    rng = np.random.default_rng(0)
    first = block_node(random_weight(rng, CHANNELS, OUTPUTS, int4), block=16, bits=4, int4=int4).in_half()
    for half in (True, False):
        first.activations = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        model = onnx.load_from_string(first.model({"X": ["batch", 7, CHANNELS]}))
        (node,) = model.graph.node
        node.output[0] = "between"
        model.graph.node.append(helper.make_node("Transpose", ["between"], ["Y"], perm=[0, 2, 1]))
        session = runtime_ops.session(model.SerializeToString(), threads=1, library=True)
        (output,) = session.get_outputs()
        assert (output.type, output.shape) == (f"tensor(float{16 if half else ''})", ["batch", OUTPUTS, 7])
        x = rng.normal(size=(2, 7, CHANNELS)).astype(F16 if half else F32)
        assert session.run(None, {"X": x})[0].dtype == x.dtype


def test_types_are_not_mixed(library: str) -> None:
    """float16 beside float32 is refused when the session is created."""
    rng = np.random.default_rng(0)
    node = block_node(**constants(rng, False, ("residual",)), block=16, bits=4)
    model = onnx.load_from_string(node.in_half().model())
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.FLOAT
    with pytest.raises(Exception, match="BlockLinearAdd"):
        runtime_ops.session(model.SerializeToString(), threads=1, library=True)
