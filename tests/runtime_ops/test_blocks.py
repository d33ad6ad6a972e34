"""BlockLinear and its family: kernels against the definition, and against the function body of the same name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler import runtime_ops
from qcompiler.ir.functions import functions_for

from . import blocks, reference
from .nodes import F32, Node, block_node, divisors, random_blocks, random_weight

SIZES = [1, 2, 4, 8, 16, 32, 64, 128]  # of a rotation

PROPERTY = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
OPERATORS: dict[str, dict[str, bool]] = {
    "BlockLinear": {},
    "BlockLinearGelu": {"gelu": True},
    "BlockLinearAdd": {"residual": True},
    "LayerNormBlockLinear": {"norm": True},
    "LayerNormBlockLinearGelu": {"norm": True, "gelu": True},
}
GELU = 4e-7  # float32 erf, of the largest output


def constants(
    seed: int,
    channels: int,
    outputs: int,
    *,
    bits: int = 4,
    block: int,
    clip: float = 1.0,
    slack: float = 0.25,
    rotate: int = 1,
    int4: bool = False,
) -> dict[str, Any]:
    """Random constants and attributes of a layer, its weights in a few blocks."""
    rng = np.random.default_rng(seed)
    return {
        "weight": random_weight(rng, channels, outputs, int4),
        "w_scale": rng.uniform(0.001, 0.02, outputs).astype(F32),
        "w_blocks": random_blocks(rng, int(rng.choice(divisors(channels))), outputs),
        "bias": rng.normal(size=outputs).astype(F32),
        "bits": bits,
        "block": block,
        "clip": float(F32(clip)),
        "slack": float(F32(slack)),
        "rotate": rotate,
    }


def tokens(seed: int, shape: tuple[int, ...], block: int) -> np.ndarray:
    """Rows of very different sizes whose blocks differ in size, sign and offset."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) * np.exp2(rng.integers(-6, 7, (*shape[:-1], 1)))
    parts = (*shape[:-1], shape[-1] // block)
    size = np.exp2(rng.uniform(-4, 2, parts))
    offset = rng.normal(size=parts) * rng.integers(0, 2, parts) * 3
    return (x * np.repeat(size, block, -1) + np.repeat(offset, block, -1)).astype(F32)


def layer(rest: dict[str, Any], operator: str, **more: Any) -> tuple[Node, dict[str, Any]]:
    """The node of one operator, and what it has of LayerNormalization."""
    parts: dict[str, Any] = dict(OPERATORS[operator])
    rng = np.random.default_rng(17)
    channels = len(rest["weight"])
    norm = (rng.uniform(0.5, 2, channels).astype(F32), rng.normal(size=channels).astype(F32))
    extra: dict[str, Any] = {"epsilon": 1e-6, "norm": norm} if parts.pop("norm", False) else {}
    extra |= {"approximate": "none"} if parts.get("gelu") else {}
    node = block_node(**rest, **parts, **extra, **more)
    assert node.op == operator
    return node, extra


@PROPERTY
@given(
    seed=st.integers(0, 2**31),
    leading=st.lists(st.integers(1, 3), max_size=2),
    length=st.integers(1, 30),
    channels=st.integers(1, 150),
    outputs=st.integers(1, 50),
    bits=st.integers(2, 7),
    clip=st.sampled_from([1.0, 0.9, 0.55]),
    slack=st.sampled_from([0.0, 0.25, 0.3, 0.5]),
    int4=st.booleans(),
    data=st.data(),
)
def test_definition(
    cpu_path: str,
    seed: int,
    leading: list[int],
    length: int,
    channels: int,
    outputs: int,
    bits: int,
    clip: float,
    slack: float,
    int4: bool,
    data: st.DataObject,
) -> None:
    """Any shape, width, clip ratio, slack, weight type and block that divides the channels: the definition's bits."""
    block = data.draw(st.sampled_from(divisors(channels)))
    rest = constants(seed, channels, outputs, bits=bits, block=block, clip=clip, slack=slack, int4=int4)
    x = tokens(seed, (*leading, length, channels), block)
    y = block_node(**rest, int4=int4, rank=x.ndim).run({"X": x})
    np.testing.assert_array_equal(y, blocks.linear(x, **rest)[0])


@pytest.mark.parametrize(
    ("channels", "outputs", "block", "rotate"), [(192, 576, 32, 32), (768, 192, 64, 128), (192, 192, 192, 1)]
)
def test_transformer_sizes(cpu_path: str, channels: int, outputs: int, block: int, rotate: int) -> None:
    """197 tokens: several blocks of every kernel, a last one that is not full."""
    rest = constants(1, channels, outputs, block=block, clip=0.95, rotate=rotate, int4=True)
    x = tokens(1, (2, 197, channels), block)
    np.testing.assert_array_equal(block_node(**rest, int4=True).run({"X": x}), blocks.linear(x, **rest)[0])


def test_operands(cpu_path: str) -> None:
    """Identity weights and a largest magnitude of 120: the outputs are the operands, 4 bits, blocks of four."""
    x = np.array([120, -120, 0, 8, 0.4, 0, -0.4, 0.6, 100, 60, 100, 60, 120, 4, 12, 20, 33.75, 0, 0, 3], F32)
    y = block_node(np.eye(20, dtype=np.int8), bits=4, block=4).run({"X": x[None, None]})
    largest = [105, -120, 0, 15]  # multiplier 15 and zero point 8; 120 / 15 + 8 is code 16, one too many
    smallest = [0, 0, 0, 1]  # multiplier 1, zero point 0
    one_sign = [98, 63, 98, 63]  # multiplier 7: zero belongs to the range
    ties = [120, 0, 16, 16]  # multiplier 8: 0.5, 1.5 and 2.5 go to even
    slack = [30, 0, 0, 4]  # multiplier 2 for 2.25 steps
    np.testing.assert_array_equal(y[0, 0], [*largest, *smallest, *one_sign, *ties, *slack])


@PROPERTY
@given(
    seed=st.integers(0, 2**31),
    leading=st.lists(st.integers(1, 3), max_size=2),
    length=st.integers(1, 20),
    sets=st.integers(1, 6),
    rotate=st.sampled_from(SIZES),
    data=st.data(),
)
def test_rotation(
    cpu_path: str, seed: int, leading: list[int], length: int, sets: int, rotate: int, data: st.DataObject
) -> None:
    """Any size of the sets, their number and blocks that need not be sets: the definition's bits."""
    channels = sets * rotate
    block = data.draw(st.sampled_from(divisors(channels)))
    rest = constants(seed, channels, 7, block=block, rotate=rotate)
    x = tokens(seed, (*leading, length, channels), block)
    np.testing.assert_array_equal(block_node(**rest, rank=x.ndim).run({"X": x}), blocks.linear(x, **rest)[0])


def test_rotated_operands(cpu_path: str) -> None:
    """Identity weights and a largest magnitude of 120 behind the rotation: the outputs are the operands, 4 bits."""
    x = np.array([[[60, 60, 60, -60, 90, 30, 0, 0]]], F32)
    fours = [105, 105, 105, -120, 120, 64, 120, 64]  # of 120, 120, 120, -120 (multiplier 15); 120, 60, 120, 60 (8)
    y = block_node(np.eye(8, dtype=np.int8), bits=4, block=4, rotate=4).run({"X": x})
    np.testing.assert_array_equal(y[0, 0], fours)
    pairs = [120, 0, 0, 120, 120, 64, 0, 0]  # of 120, 0, 0, 120, 120, 60, 0, 0: multiplier 8
    y = block_node(np.eye(8, dtype=np.int8), bits=4, block=8, rotate=2).run({"X": x})
    np.testing.assert_array_equal(y[0, 0], pairs)


def test_operands_saturate(cpu_path: str) -> None:
    """2 bits: multiplier 50 for the range (-24, 126), and code 3 would be 150."""
    x = np.array([[[126, -24, 0, 30], [-126, 24, 0, -30]]], F32)
    y = block_node(np.eye(4, dtype=np.int8), bits=2, block=4).run({"X": x})
    np.testing.assert_array_equal(y[0], [[127, 0, 0, 50], [-127, 0, 0, -50]])


def test_rows_of_zeros(cpu_path: str) -> None:
    """The bias comes out, not NaN; so it does where the scale of a row would have no finite inverse."""
    rest = constants(2, 48, 21, block=16)
    x = tokens(2, (2, 5, 48), 16)
    x[0, 1], x[1, 4] = 0, 1e-38
    y = block_node(**rest).run({"X": x})
    np.testing.assert_array_equal(y, blocks.linear(x, **rest)[0])
    np.testing.assert_array_equal(y[0, 1], rest["bias"])
    np.testing.assert_array_equal(y[1, 4], rest["bias"])


def test_a_factor_per_row_passes_through(cpu_path: str) -> None:
    """Powers of two are exact everywhere: they reach the output and change no code."""
    rest = constants(3, 64, 20, block=8) | {"bias": np.zeros(20, F32)}
    x = tokens(3, (2, 17, 64), 8)
    factor = np.exp2(np.random.default_rng(7).integers(-8, 9, (2, 17, 1))).astype(F32)
    session = block_node(**rest).session()
    y = session.run(None, {"X": x})[0]
    np.testing.assert_array_equal(session.run(None, {"X": x * factor})[0], y * factor)


def test_not_a_number(cpu_path: str) -> None:
    """It stays in its row and stops nothing."""
    rest = constants(4, 32, 20, block=16)
    x = tokens(4, (1, 6, 32), 16)
    clean = block_node(**rest).run({"X": x})
    x[0, 2, 5], x[0, 4, 31] = np.nan, np.inf
    y = block_node(**rest).run({"X": x})
    np.testing.assert_array_equal(y[0, [0, 1, 3, 5]], clean[0, [0, 1, 3, 5]])


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("batch", [1, 8])
def test_operators(cpu_path: str, operator: str, batch: int) -> None:
    """Every operator of the family; only what lies next to a rounding boundary may fall to either side."""
    rest = constants(8, 48, 36, bits=6, block=12, clip=0.9, rotate=4)
    node, extra = layer(rest, operator)
    feeds = {"X": tokens(8, (batch, 14, 48), 12)}
    feeds["X"][0, 0] = 0
    prepared = reference.layer_norm(feeds["X"], *extra["norm"], extra["epsilon"]) if "norm" in extra else feeds["X"]
    expected, slack = blocks.linear(prepared, **rest)
    if "approximate" in extra:
        expected, slack = reference.gelu(expected), slack * 1.13  # the steepest slope of GELU
    if operator.endswith("Add"):
        feeds["residual"] = np.random.default_rng(9).normal(size=expected.shape).astype(F32)
        expected = expected + feeds["residual"]
    y = node.run(feeds)
    assert np.mean(slack == 0) > 0.1, "the case must hold outputs that are fixed"
    assert np.all(np.abs(y - expected) <= slack + 1e-5 + 1e-5 * np.abs(expected))


@pytest.mark.parametrize("int4", [False, True], ids=["int8", "int4"])
@pytest.mark.parametrize(("block", "rotate"), [(16, 16), (12, 1), (48, 32), (32, 2)])
@pytest.mark.parametrize("operator", OPERATORS)
def test_kernel_and_body_agree(cpu_path: str, operator: str, block: int, rotate: int, int4: bool) -> None:
    """The same file without the library: standard operators of ONNX, optimisations off. GELU's last bits may differ."""
    rest = constants(9, 96, 40, block=block, clip=0.85, rotate=rotate, int4=int4)
    node, _ = layer(rest, operator, int4=int4)
    feeds = {"X": tokens(9, (3, 33, 96), block)}
    feeds["X"][1, 0] = 0
    if operator.endswith("Add"):
        feeds["residual"] = np.random.default_rng(10).normal(size=(3, 33, 40)).astype(F32)
    model = node.model(functions=functions_for([operator]))
    kernel = runtime_ops.session(model, threads=1, library=True).run(None, feeds)[0]
    body = runtime_ops.session(model, threads=1, library=False, optimize=False).run(None, feeds)[0]
    if operator.endswith("Gelu"):
        np.testing.assert_allclose(kernel, body, rtol=0, atol=GELU * np.abs(body).max())
    else:
        np.testing.assert_array_equal(kernel, body)


@pytest.mark.parametrize("operator", OPERATORS)
def test_batches_and_threads(cpu_path: str, operator: str) -> None:
    """Eight images are a stack of single ones, and two threads give the same bits as one."""
    node, _ = layer(constants(11, 64, 70, block=32, rotate=64, int4=True), operator, int4=True)
    feeds = {"X": tokens(11, (8, 33, 64), 32)}
    if operator.endswith("Add"):
        feeds["residual"] = np.random.default_rng(12).normal(size=(8, 33, 70)).astype(F32)
    one, two = node.session(1), node.session(2)
    together = one.run(None, feeds)[0]
    np.testing.assert_array_equal(two.run(None, feeds)[0], together)
    for i in (0, 7):
        single = {name: value[i : i + 1] for name, value in feeds.items()}
        np.testing.assert_array_equal(one.run(None, single)[0][0], together[i])
        np.testing.assert_array_equal(two.run(None, single)[0][0], together[i])


def test_empty_batch(cpu_path: str) -> None:
    y = block_node(np.eye(4, dtype=np.int8), block=2).run({"X": np.zeros((0, 7, 4), F32)})
    assert y.shape == (0, 7, 4)
