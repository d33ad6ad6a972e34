"""Threads change nothing in the result: threads inside a run, runs at the same time, and many runs in a row."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from .nodes import (
    F32,
    MODES,
    Node,
    attention_node,
    block_attention_node,
    block_node,
    linear_node,
    probability_table,
    random_blocks,
    random_table,
    random_weight,
)


def linear(mode: str, **parts: bool) -> tuple[Node, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    axis, segments = MODES[mode]
    node = linear_node(
        random_weight(rng, 64, 144, True),
        random_table(rng, mode, 4, 5),
        bits=4,
        axis=axis,
        segments=segments,
        int4=True,
        norm=(np.ones(64, F32), np.zeros(64, F32)) if parts.get("norm") else None,
        gelu=parts.get("gelu", False),
        residual=parts.get("residual", False),
    )
    feeds = {"X": rng.normal(size=(3, 61, 64)).astype(F32)}
    if parts.get("residual"):
        feeds["residual"] = rng.normal(size=(3, 61, 144)).astype(F32)
    return node, feeds


def blocks(**parts: bool) -> tuple[Node, dict[str, np.ndarray]]:
    rng = np.random.default_rng(2)
    node = block_node(
        random_weight(rng, 64, 144, True), bits=4, block=16, w_blocks=random_blocks(rng, 2, 144), int4=True, **parts
    )
    return node, {"X": rng.normal(size=(3, 61, 64)).astype(F32)}


def attention() -> tuple[Node, dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    levels = np.arange(16, dtype=np.uint8)
    tables = [*(random_table(rng, "bytes", 4, 4) for _ in range(3)), probability_table(rng, 16, 4)]
    node = attention_node(tables, levels, num_heads=3, scale=0.2, bits=4)
    return node, {"QKV": rng.normal(size=(3, 61, 3 * 3 * 24)).astype(F32)}


def block_attention() -> tuple[Node, dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    levels = np.arange(16, dtype=np.uint8)
    widths = {"qk_bits": 4, "v_bits": 5, "block": 8}
    node = block_attention_node(probability_table(rng, 16, 4), levels, num_heads=3, scale=0.2, **widths)
    return node, {"QKV": rng.normal(size=(3, 61, 3 * 3 * 24)).astype(F32)}


CASES = {
    **{mode: linear(mode) for mode in MODES},
    "norm-gelu": linear("multiples", norm=True, gelu=True),
    "norm-rows": linear("rows", norm=True),
    "residual": linear("multiples", residual=True),
    "blocks": blocks(),
    "blocks-gelu": blocks(gelu=True),
    "attention": attention(),
    "block-attention": block_attention(),
}


@pytest.mark.parametrize("name", CASES)
def test_two_threads_give_the_same_bits(cpu_path: str, name: str) -> None:
    node, feeds = CASES[name]
    np.testing.assert_array_equal(node.run(feeds, threads=1), node.run(feeds, threads=2))


@pytest.mark.parametrize("name", CASES)
def test_concurrent_runs_of_one_session(cpu_path: str, name: str) -> None:
    """Four callers with inputs of their own; shared scratch memory would mix them."""
    node, feeds = CASES[name]
    session = node.session(threads=2)
    inputs = [{key: (value * F32(1 + 0.1 * i)).astype(F32) for key, value in feeds.items()} for i in range(4)]
    expected = [session.run(None, given)[0] for given in inputs]

    def repeat(i: int) -> list[np.ndarray]:
        return [session.run(None, inputs[i])[0] for _ in range(10)]

    with ThreadPoolExecutor(4) as pool:
        for i, results in enumerate(pool.map(repeat, range(4))):
            for result in results:
                np.testing.assert_array_equal(result, expected[i])


def test_many_runs_in_a_row(cpu_path: str) -> None:
    """Long enough for the library to change its mind about how many pieces the work is cut into."""
    node, feeds = CASES["multiples"]
    for threads in (1, 2):
        session = node.session(threads)
        first = session.run(None, feeds)[0]
        for _ in range(300):
            np.testing.assert_array_equal(session.run(None, feeds)[0], first)
