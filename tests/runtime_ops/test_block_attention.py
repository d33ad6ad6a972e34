"""BlockAttention: kernels against the definition, and against the function body of the same name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler import runtime_ops
from qcompiler.ir.functions import functions_for

from . import blocks
from .nodes import F32, block_attention_node, divisors, probability_table, table

PROPERTY = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CODEBOOK = np.unique(np.rint(127 * np.linspace(0, 1, 16) ** 2)).astype(np.uint8)  # few levels, unequal steps
UNIFORM = np.arange(16, dtype=np.uint8)


def tokens(seed: int, shape: tuple[int, int, int], num_heads: int, block: int) -> np.ndarray:
    """`[B, N, 3*H*D]` whose tokens, heads and blocks differ in size, and blocks in their offset."""
    rng = np.random.default_rng(seed)
    batch, length, width = shape
    size = np.exp2(rng.uniform(-2, 1, (batch, length, width // block)))
    size *= np.repeat(np.exp2(rng.uniform(-2, 1, (batch, length, 3 * num_heads))), width // block // 3 // num_heads, -1)
    offset = rng.normal(size=size.shape) * rng.integers(0, 2, size.shape)
    x = (rng.normal(size=shape) + np.repeat(offset, block, -1)) * np.repeat(size, block, -1)
    return x.astype(F32)


def check(y: np.ndarray, expected: np.ndarray, slack: np.ndarray) -> None:
    """Equal up to codes of probabilities that lie next to a rounding boundary."""
    assert y.shape == expected.shape
    assert np.all(np.abs(y - expected) <= slack * 1.001 + 1e-6 * np.abs(expected) + 1e-30)


@PROPERTY
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 3),
    length=st.integers(1, 60),
    heads=st.integers(1, 4),
    head_dim=st.integers(1, 70),
    qk_bits=st.integers(2, 7),
    v_bits=st.integers(2, 7),
    clip=st.sampled_from([1.0, 0.9, 0.55]),
    slack=st.sampled_from([0.0, 0.25, 0.5]),
    levels=st.sampled_from([UNIFORM, CODEBOOK, np.arange(256, dtype=np.uint8)]),
    data=st.data(),
)
def test_definition(
    cpu_path: str,
    seed: int,
    batch: int,
    length: int,
    heads: int,
    head_dim: int,
    qk_bits: int,
    v_bits: int,
    clip: float,
    slack: float,
    levels: np.ndarray,
    data: st.DataObject,
) -> None:
    """Any shape, both widths, clip ratio, slack and block that divides a head."""
    block = data.draw(st.sampled_from(divisors(head_dim)))
    qkv = tokens(seed, (batch, length, 3 * heads * head_dim), heads, block)
    p_groups = probability_table(np.random.default_rng(seed), len(levels), 3)
    widths = {"qk_bits": qk_bits, "v_bits": v_bits, "block": block, "clip": float(F32(clip)), "slack": slack}
    attributes: dict[str, Any] = {"num_heads": heads, "scale": float(F32(head_dim**-0.5)), **widths}
    y = block_attention_node(p_groups, levels, **attributes).run({"QKV": qkv})
    check(y, *blocks.attention(qkv, p_groups, levels, **attributes))


def test_values_share_a_scale(cpu_path: str) -> None:
    """q = 0 makes every probability 1/4, code 64 of 256. The largest value is 120, which makes the scale 1.

    In a scale of its own the last token would keep its fractions; in the shared one they are rounded to integers.
    """
    qkv = np.zeros((1, 4, 3, 1, 4), F32)
    qkv[0, :, 2, 0] = [[120, 8, 16, 0], [-120, 0, 0, 0], [0, 1, 2, 3], [0.6, 1.2, -0.4, 1.4]]
    p_groups = table([(0, 1, 1 / 256, 0, 1, 1)])
    node = block_attention_node(
        p_groups, np.arange(256, dtype=np.uint8), num_heads=1, scale=1.0, qk_bits=4, v_bits=4, block=4
    )
    y = node.run({"QKV": qkv.reshape(1, 4, 12)})
    sums = 64 * np.array([[120, 8, 16, 0], [-120, 0, 0, 0], [0, 1, 2, 3], [1, 1, 0, 1]]).sum(axis=0)
    np.testing.assert_array_equal(y, np.broadcast_to(sums, (1, 4, 4)))


def test_one_hot_scores_pick_a_value(cpu_path: str) -> None:
    """Scores that are far apart give probability 1 to one key.

    Shows the order of keys, heads and channels, and the largest operand of a probability.
    """
    rng = np.random.default_rng(1)
    length, heads, head_dim = 21, 3, 32
    picks = np.stack([rng.permutation(length) for _ in range(heads)])
    qkv = np.zeros((1, length, 3, heads, head_dim), F32)
    for head in range(heads):
        for token in range(length):
            qkv[0, token, 1, head, token] = 126
            qkv[0, token, 0, head, picks[head, token]] = 126
    # Multiplier 1 at 7 bits with the scale 126 / 64: codes are as fine as they get.
    steps = rng.integers(-62, 65, qkv[:, :, 2].shape)
    steps[..., 0], steps[..., 1] = 64, -62
    qkv[:, :, 2] = steps * F32(2)
    levels = np.array([0, 255], np.uint8)
    node = block_attention_node(
        table([(0, 1, 1, 0, 1, 1)]), levels, num_heads=heads, scale=1.0, qk_bits=7, v_bits=7, block=16
    )
    y = node.run({"QKV": qkv.reshape(1, length, -1)}).reshape(length, heads, head_dim)
    found = blocks.quantize(qkv[:, :, 2].transpose(0, 2, 1, 3), 7, 16, 1.0, 0.25, shared=True)
    assert set(np.unique(found.scale)) == {2} and np.abs(found.values).max() == 64
    for head in range(heads):
        np.testing.assert_array_equal(y[:, head], 2 * 255 * found.values[0, head, picks[head]])


@pytest.mark.parametrize("windows", [1, 4])
@pytest.mark.parametrize("bias_heads", [1, 3])
@pytest.mark.parametrize("constant", [True, False])
def test_bias(cpu_path: str, windows: int, bias_heads: int, constant: bool) -> None:
    """Swin's windows of 49 tokens: row b of the batch takes bias b % windows; -100 in the bias hides keys."""
    rng = np.random.default_rng(windows)
    heads, head_dim, length = 3, 32, 49
    qkv = tokens(windows, (8, length, 3 * heads * head_dim), heads, 32)
    bias = (
        rng.normal(size=(windows, bias_heads, length, length)) - 100 * (rng.random((windows, 1, length, length)) < 0.3)
    ).astype(F32)
    p_groups = probability_table(rng, len(CODEBOOK), 3)
    widths = {"qk_bits": 4, "v_bits": 5, "block": 32, "clip": 1.0, "slack": 0.25}
    attributes: dict[str, Any] = {"num_heads": heads, "scale": float(F32(head_dim**-0.5)), **widths}
    feeds = {"QKV": qkv} if constant else {"QKV": qkv, "bias": bias}
    y = block_attention_node(p_groups, CODEBOOK, bias=bias if constant else True, **attributes).run(feeds)
    check(y, *blocks.attention(qkv, p_groups, CODEBOOK, bias, **attributes))


@pytest.mark.parametrize("block", [64, 32])
def test_transformer_size(cpu_path: str, block: int) -> None:
    """197 tokens, 3 heads of 64, 4 bits."""
    qkv = tokens(2, (2, 197, 3 * 3 * 64), 3, block)
    p_groups = table([(0, m, m / 15, 0, 1, m / 15) for m in (0.02, 0.05, 0.1, 0.3)])
    attributes: dict[str, Any] = {"num_heads": 3, "scale": 0.125, "qk_bits": 4, "v_bits": 4, "block": block}
    y = block_attention_node(p_groups, UNIFORM, **attributes).run({"QKV": qkv})
    check(y, *blocks.attention(qkv, p_groups, UNIFORM, clip=1.0, slack=0.25, **attributes))


@pytest.mark.parametrize("windows", [None, 1, 4])
@pytest.mark.parametrize("block", [32, 16, 4])
def test_kernel_and_body_agree(cpu_path: str, block: int, windows: int | None) -> None:
    """The same file without the library, optimisations off: what is left are the last bits of the runtime's softmax."""
    rng = np.random.default_rng(block)
    bias = None if windows is None else rng.normal(size=(windows, 2, 33, 33)).astype(F32)
    p_groups = probability_table(rng, len(CODEBOOK), 3)
    node = block_attention_node(
        p_groups,
        CODEBOOK,
        num_heads=2,
        scale=0.176,
        qk_bits=4,
        v_bits=5,
        block=block,
        clip=0.875,
        bias=False if bias is None else bias,
    )
    feeds = {"QKV": tokens(5, (4, 33, 3 * 2 * 32), 2, block)}
    feeds["QKV"][1, 3] = 0
    model = node.model(functions=functions_for([node.op]))
    kernel = runtime_ops.session(model, threads=1, library=True).run(None, feeds)[0]
    body = runtime_ops.session(model, threads=1, library=False, optimize=False).run(None, feeds)[0]
    np.testing.assert_array_equal(kernel, body)


def test_zeros_and_what_counts_as_zeros(cpu_path: str) -> None:
    """Uniform attention over values of zero, not NaN; likewise where the scale would have no finite inverse."""
    node = block_attention_node(
        table([(0, 1, 1 / 255, 0, 1, 1)]),
        np.arange(256, dtype=np.uint8),
        num_heads=2,
        scale=1.0,
        qk_bits=4,
        v_bits=4,
        block=8,
    )
    for value in (0, 1e-38):
        np.testing.assert_array_equal(node.run({"QKV": np.full((2, 9, 96), value, F32)}), np.zeros((2, 9, 32)))


def test_not_a_number(cpu_path: str) -> None:
    """It stays in its head and stops nothing."""
    attributes: dict[str, Any] = {"num_heads": 2, "scale": 0.25, "qk_bits": 4, "v_bits": 4, "block": 8}
    node = block_attention_node(probability_table(np.random.default_rng(6), 16, 2), UNIFORM, **attributes)
    qkv = tokens(6, (1, 11, 96), 2, 8)
    clean = node.run({"QKV": qkv})
    qkv.reshape(1, 11, 3, 2, 16)[0, 4, :, 0] = [[np.nan], [np.inf], [-np.inf]]
    y = node.run({"QKV": qkv})
    np.testing.assert_array_equal(y[..., 16:], clean[..., 16:])


def test_batches_and_threads(cpu_path: str) -> None:
    """Eight images are a stack of single ones, and two threads give the same bits as one."""
    attributes: dict[str, Any] = {"num_heads": 2, "scale": 0.25, "qk_bits": 6, "v_bits": 4, "block": 16}
    node = block_attention_node(probability_table(np.random.default_rng(3), 16, 4), UNIFORM, **attributes)
    qkv = tokens(3, (8, 33, 96), 2, 16)
    one, two = node.session(1), node.session(2)
    together = one.run(None, {"QKV": qkv})[0]
    np.testing.assert_array_equal(two.run(None, {"QKV": qkv})[0], together)
    for i in range(8):
        np.testing.assert_array_equal(one.run(None, {"QKV": qkv[i : i + 1]})[0][0], together[i])
        np.testing.assert_array_equal(two.run(None, {"QKV": qkv[i : i + 1]})[0][0], together[i])


def test_empty_batch(cpu_path: str) -> None:
    attributes: dict[str, Any] = {"num_heads": 2, "scale": 0.25, "qk_bits": 6, "v_bits": 4, "block": 16}
    node = block_attention_node(probability_table(np.random.default_rng(3), 16, 4), UNIFORM, **attributes)
    assert node.run({"QKV": np.zeros((0, 7, 96), F32)}).shape == (0, 7, 32)
