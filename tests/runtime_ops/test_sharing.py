"""Sessions of one model hold its packed weights once, and give them back."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from qcompiler import runtime_ops
from qcompiler.runtime_ops.library import packed_bytes

from .nodes import F32, MODES, Node, block_node, linear_node, random_table, random_weight

CHANNELS, OUTPUTS = 96, 80


def layer(mode: str, seed: int = 0) -> Node:
    rng = np.random.default_rng(seed)
    weight = random_weight(rng, CHANNELS, OUTPUTS, True)
    if mode == "blocks":
        return block_node(weight, bits=4, block=16, int4=True)
    axis, segments = MODES[mode]
    return linear_node(weight, random_table(rng, mode, 4, 3), bits=4, axis=axis, segments=segments, int4=True)


@pytest.fixture(autouse=True)
def before(library: str) -> Iterator[int]:
    """What earlier tests left; afterwards it must be the same again."""
    gc.collect()
    held = packed_bytes()
    yield held
    gc.collect()
    assert packed_bytes() == held


def outputs(session: Any) -> np.ndarray:
    x = np.random.default_rng(1).normal(size=(2, 9, CHANNELS)).astype(F32)
    y: np.ndarray = session.run(None, {"X": x})[0]
    return y


@pytest.mark.parametrize("mode", [*MODES, "blocks"])
def test_second_session_adds_nothing(cpu_path: str, mode: str, before: int) -> None:
    """The same file twice, then the first session goes: the second one still has its weights."""
    model = layer(mode).model()
    first = runtime_ops.session(model, threads=1, library=True)
    held = packed_bytes() - before
    assert held >= CHANNELS * OUTPUTS
    second = runtime_ops.session(model, threads=1, library=True)
    assert packed_bytes() - before == held
    expected = outputs(first)
    del first
    gc.collect()
    assert packed_bytes() - before == held
    np.testing.assert_array_equal(outputs(second), expected)


def test_other_weights_are_held_beside(cpu_path: str, before: int) -> None:
    sessions = [layer("rows", seed).session() for seed in (0, 1, 0)]
    one = packed_bytes() - before
    assert one > 0
    assert np.any(outputs(sessions[0]) != outputs(sessions[1]))
    np.testing.assert_array_equal(outputs(sessions[0]), outputs(sessions[2]))
    del sessions[1]
    gc.collect()
    assert packed_bytes() - before == one // 2


def test_sessions_that_are_created_at_the_same_time(cpu_path: str, before: int) -> None:
    """Eight sessions of two models from four threads: two sets of weights."""
    models = [layer("rows", 0).model(), layer("blocks", 1).model()]
    alone = [outputs(runtime_ops.session(model, threads=1, library=True)) for model in models]
    with ThreadPoolExecutor(4) as pool:
        sessions = list(pool.map(lambda i: runtime_ops.session(models[i % 2], threads=1, library=True), range(8)))
    held = packed_bytes() - before
    del sessions[2:]
    gc.collect()
    assert packed_bytes() - before == held > 0
    for i, session in enumerate(sessions):
        np.testing.assert_array_equal(outputs(session), alone[i])
