"""Sizes at which blocking, padding or tables could go wrong: every width, many groups, one of everything, nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from . import reference
from .nodes import (
    F32,
    MODES,
    WIDEST,
    attention_node,
    block_attention_node,
    linear_node,
    probability_table,
    random_table,
    random_weight,
)

LEVELS = np.arange(16, dtype=np.uint8)


def constants(mode: str, channels: int, outputs: int, bits: int, count: int, *, int4: bool) -> dict[str, Any]:
    rng = np.random.default_rng(100 * channels + 10 * bits + count)
    axis, segments = MODES[mode]
    return {
        "weight": random_weight(rng, channels, outputs, int4),
        "w_scale": rng.uniform(0.001, 0.02, outputs).astype(F32),
        "groups": random_table(rng, mode, bits, count),
        "bias": rng.normal(size=outputs).astype(F32),
        "bits": bits,
        "axis": axis,
        "segments": segments,
    }


def spread(shape: tuple[int, ...]) -> np.ndarray:
    """Rows and channels of different sizes, so that many groups are taken."""
    rng = np.random.default_rng(len(shape) + shape[-1])
    size = rng.uniform(0.1, 4, shape[-1]) * rng.uniform(0.3, 1, (*shape[:-1], 1))
    return (rng.normal(size=shape) * size).astype(F32)


def check(x: np.ndarray, rest: dict[str, Any], *, int4: bool) -> None:
    y = linear_node(**rest, int4=int4, rank=x.ndim).run({"X": x})
    np.testing.assert_array_equal(y, reference.linear(x, **rest)[0])


@pytest.mark.parametrize("int4", [False, True], ids=["int8", "int4"])
@pytest.mark.parametrize("mode", MODES)
def test_every_width(cpu_path: str, mode: str, int4: bool) -> None:
    for bits in range(1, WIDEST[mode] + 1):
        check(spread((2, 11, 45)), constants(mode, 45, 23, bits, 4, int4=int4), int4=int4)


@pytest.mark.parametrize("mode", MODES)
def test_any_number_of_groups(cpu_path: str, mode: str) -> None:
    """Around the width of a vector of groups, and more groups than channels or tokens."""
    for count in (1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 100):
        check(spread((2, 13, 37)), constants(mode, 37, 18, 4, count, int4=True), int4=True)


@pytest.mark.parametrize("mode", MODES)
def test_sizes_around_every_block(cpu_path: str, mode: str) -> None:
    """Tokens, channels and outputs one below, at and above what the kernels take at a time."""
    for tokens in (1, 15, 17, 63, 64, 65):
        check(spread((1, tokens, 33)), constants(mode, 33, 17, 4, 3, int4=True), int4=True)
    for channels in (1, 3, 31, 63, 64, 65, 127, 129):
        check(spread((2, 5, channels)), constants(mode, channels, 17, 5, 3, int4=False), int4=False)
    for outputs in (1, 15, 16, 47, 63, 64, 65, 79):
        check(spread((1, 6, 20)), constants(mode, 20, outputs, 4, 3, int4=True), int4=True)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (0, 2, 3, 4), (0, 4)])
@pytest.mark.parametrize("mode", MODES)
def test_nothing_to_do(cpu_path: str, mode: str, shape: tuple[int, ...]) -> None:
    rest = constants(mode, 4, 5, 4, 2, int4=False)
    y = linear_node(**rest, rank=len(shape)).run({"X": np.zeros(shape, F32)})
    assert y.shape == (*shape[:-1], 5)


@pytest.mark.parametrize("shape", [(0, 7, 24), (2, 0, 24)])
def test_no_attention(cpu_path: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    tables = [*(random_table(rng, "bytes", 4, 2) for _ in range(3)), probability_table(rng, 16, 2)]
    widths = {"qk_bits": 4, "v_bits": 4, "block": 2}
    for node in (
        attention_node(tables, LEVELS, num_heads=2, scale=0.5, bits=4),
        block_attention_node(tables[3], LEVELS, num_heads=2, scale=0.5, **widths),
    ):
        assert node.run({"QKV": np.zeros(shape, F32)}).shape == (*shape[:-1], 8)


@pytest.mark.parametrize("batch", [1, 3])
def test_attention_around_every_block(cpu_path: str, batch: int) -> None:
    """One token, one channel per head, and tokens around what a block of rows, a panel and a step of depth take."""
    rng = np.random.default_rng(batch)
    for tokens in (1, 2, 15, 16, 17, 63, 64, 65, 129):
        for head_dim in (1, 5, 33):
            tables = [*(random_table(rng, "bytes", 4, 3) for _ in range(3)), probability_table(rng, 16, 20)]
            attributes = {"num_heads": 2, "scale": float(F32(head_dim**-0.5)), "bits": 4}
            qkv = spread((batch, tokens, 6 * head_dim))
            y = attention_node(tables, LEVELS, **attributes).run({"QKV": qkv})
            expected, slack = reference.attention(qkv, *tables, LEVELS, **attributes)
            assert np.all(np.abs(y - expected) <= slack * 1.001 + 1e-6 * np.abs(expected) + 1e-30)


@pytest.mark.parametrize("threads", [3, 5])
@pytest.mark.parametrize("mode", MODES)
def test_more_threads_than_work(cpu_path: str, mode: str, threads: int) -> None:
    """One token and one panel, and pieces that do not divide the rows: the bytes of one thread."""
    node = linear_node(**constants(mode, 65, 17, 4, 5, int4=True), int4=True)
    one, many = node.session(1), node.session(threads)
    for shape in ((1, 1, 65), (1, 7, 65), (2, 67, 65)):
        x = spread(shape)
        np.testing.assert_array_equal(many.run(None, {"X": x})[0], one.run(None, {"X": x})[0])
