"""The attention operators against their definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import reference
from .nodes import F32, attention_node, one_group, probability_table, random_table, table

PROPERTY = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CODEBOOK = np.unique(np.rint(127 * np.linspace(0, 1, 16) ** 2)).astype(np.uint8)  # few levels, unequal steps


def tables(rng: np.random.Generator, bits: int, count: int, levels: np.ndarray) -> list[np.ndarray]:
    return [*(random_table(rng, "bytes", bits, count) for _ in range(3)), probability_table(rng, len(levels), count)]


def check(y: np.ndarray, expected: np.ndarray, slack: np.ndarray) -> None:
    """Equal up to codes of probabilities that lie next to a rounding boundary."""
    assert y.shape == expected.shape
    assert np.all(np.abs(y - expected) <= slack * 1.001 + 1e-6 * np.abs(expected) + 1e-30)


def test_uniform_scores_add_up_the_values(cpu_path: str) -> None:
    """q = 0 makes every probability 1/16, code 16 of 256: each output is 16 times the sum of v, an exact integer."""
    rng = np.random.default_rng(0)
    tokens, heads, head_dim = 16, 2, 24
    qkv = np.zeros((3, tokens, 3, heads, head_dim), F32)
    qkv[:, :, 1] = rng.integers(-9, 10, qkv[:, :, 1].shape)
    qkv[:, :, 2] = rng.integers(-127, 128, qkv[:, :, 2].shape)
    p_groups = table([(0, 1, 1 / 256, 0, 1, 1)])
    node = attention_node(
        [one_group()] * 3 + [p_groups], np.arange(256, dtype=np.uint8), num_heads=heads, scale=1.0, bits=8
    )
    y = node.run({"QKV": qkv.reshape(3, tokens, -1)})
    sums = 16 * qkv[:, :, 2].sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(y, np.broadcast_to(sums, (3, tokens, heads, head_dim)).reshape(3, tokens, -1))


@pytest.mark.parametrize("top", [127, 255])
def test_one_hot_scores_pick_a_value(cpu_path: str, top: int) -> None:
    """Scores that differ by more than 200 give probability 1 to one key.

    Shows the order of keys, heads and channels, and the largest operand: 255 needs an unsigned product.
    """
    rng = np.random.default_rng(1)
    tokens, heads, head_dim = 21, 3, 32
    picks = np.stack([rng.permutation(tokens) for _ in range(heads)])
    qkv = np.zeros((1, tokens, 3, heads, head_dim), F32)
    for head in range(heads):
        for token in range(tokens):
            qkv[0, token, 1, head, token] = 127
            qkv[0, token, 0, head, picks[head, token]] = 127
    qkv[:, :, 2] = rng.integers(-127, 128, qkv[:, :, 2].shape)
    levels = np.array([0, top], np.uint8)
    node = attention_node([one_group()] * 3 + [table([(0, 1, 1, 0, 1, 1)])], levels, num_heads=heads, scale=1.0, bits=8)
    y = node.run({"QKV": qkv.reshape(1, tokens, -1)}).reshape(tokens, heads, head_dim)
    for head in range(heads):
        np.testing.assert_array_equal(y[:, head], top * qkv[0, picks[head], 2, head])


@PROPERTY
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 3),
    tokens=st.integers(1, 70),
    heads=st.integers(1, 4),
    head_dim=st.integers(1, 70),
    bits=st.integers(2, 8),
    count=st.integers(1, 5),
    codebook=st.booleans(),
)
def test_definition(
    cpu_path: str, seed: int, batch: int, tokens: int, heads: int, head_dim: int, bits: int, count: int, codebook: bool
) -> None:
    """Any shape, width and table."""
    rng = np.random.default_rng(seed)
    levels = CODEBOOK if codebook else np.arange(2**bits, dtype=np.uint8)
    qkv = (rng.normal(size=(batch, tokens, 3 * heads * head_dim)) * 1.5).astype(F32)
    chosen = tables(rng, bits, count, levels)
    attributes = {"num_heads": heads, "scale": float(F32(head_dim**-0.5)), "bits": bits}
    y = attention_node(chosen, levels, **attributes).run({"QKV": qkv})
    check(y, *reference.attention(qkv, *chosen, levels, **attributes))


@pytest.mark.parametrize("windows", [1, 4])
@pytest.mark.parametrize("bias_heads", [1, 3])
@pytest.mark.parametrize("constant", [True, False])
def test_bias(cpu_path: str, windows: int, bias_heads: int, constant: bool) -> None:
    """Swin's windows of 49 tokens: row b of the batch takes bias b % windows; -100 in the bias hides keys."""
    rng = np.random.default_rng(windows)
    heads, head_dim, tokens = 3, 32, 49
    qkv = rng.normal(size=(8, tokens, 3 * heads * head_dim)).astype(F32)
    bias = (
        rng.normal(size=(windows, bias_heads, tokens, tokens)) - 100 * (rng.random((windows, 1, tokens, tokens)) < 0.3)
    ).astype(F32)
    levels = np.arange(256, dtype=np.uint8)
    chosen = tables(rng, 8, 3, levels)
    attributes = {"num_heads": heads, "scale": float(F32(head_dim**-0.5)), "bits": 8}
    feeds = {"QKV": qkv} if constant else {"QKV": qkv, "bias": bias}
    y = attention_node(chosen, levels, bias=bias if constant else True, **attributes).run(feeds)
    check(y, *reference.attention(qkv, *chosen, levels, bias, **attributes))


def test_transformer_size(cpu_path: str) -> None:
    """197 tokens, 3 heads of 64, 4 bits, four groups."""
    rng = np.random.default_rng(2)
    levels = np.arange(16, dtype=np.uint8)
    qkv = rng.normal(size=(2, 197, 3 * 3 * 64)).astype(F32)
    chosen = tables(rng, 4, 4, levels)
    chosen[3] = table([(0, m, m / 15, 0, 1, m / 15) for m in (0.02, 0.05, 0.1, 0.3)])
    attributes = {"num_heads": 3, "scale": 0.125, "bits": 4}
    y = attention_node(chosen, levels, **attributes).run({"QKV": qkv})
    check(y, *reference.attention(qkv, *chosen, levels, **attributes))


def test_batch_is_a_stack_of_single_images(cpu_path: str) -> None:
    rng = np.random.default_rng(3)
    levels = np.arange(64, dtype=np.uint8)
    session = attention_node(tables(rng, 6, 4, levels), levels, num_heads=2, scale=0.25, bits=6).session()
    qkv = rng.normal(size=(8, 33, 3 * 2 * 16)).astype(F32)
    together = session.run(None, {"QKV": qkv})[0]
    for i in range(8):
        np.testing.assert_array_equal(together[i], session.run(None, {"QKV": qkv[i : i + 1]})[0][0])
