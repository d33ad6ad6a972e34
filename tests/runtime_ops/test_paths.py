"""The CPU paths beside each other: which there are, and that one gives the bits of another."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import runtime_ops

from .conftest import detected_paths
from .nodes import (
    F32,
    MODES,
    Node,
    attention_node,
    block_node,
    linear_node,
    probability_table,
    random_blocks,
    random_table,
    random_weight,
)


def grouped(mode: str) -> tuple[Node, dict[str, np.ndarray]]:
    """A layer with GELU; its sizes leave rests in panels, tiles, vectors and chunks of the reduction."""
    rng = np.random.default_rng(3)
    axis, segments = MODES[mode]
    weight = random_weight(rng, 277, 83, False)
    groups = random_table(rng, mode, 4, 5)
    node = linear_node(weight, groups, bits=4, axis=axis, segments=segments, gelu=True)
    return node, {"X": rng.normal(size=(2, 21, 277)).astype(F32)}


def blocks() -> tuple[Node, dict[str, np.ndarray]]:
    """A layer with residual, blocks on both sides."""
    rng = np.random.default_rng(4)
    weight = random_weight(rng, 280, 83, True)
    node = block_node(weight, bits=4, block=35, w_blocks=random_blocks(rng, 8, 83), int4=True, residual=True)
    residual = rng.normal(size=(2, 21, 83)).astype(F32)
    return node, {"X": rng.normal(size=(2, 21, 280)).astype(F32), "residual": residual}


def attention() -> tuple[Node, dict[str, np.ndarray]]:
    rng = np.random.default_rng(5)
    levels = (np.arange(16) ** 2 // 2).astype(np.uint8)
    tables = [*(random_table(rng, "bytes", 4, 4) for _ in range(3)), probability_table(rng, 16, 4)]
    node = attention_node(tables, levels, num_heads=3, scale=0.2, bits=4)
    return node, {"QKV": rng.normal(size=(2, 37, 3 * 3 * 20)).astype(F32)}


def test_names(library: str) -> None:
    """The paths that the documentation names, slowest first."""
    names = [path.name for path in runtime_ops.cpu_paths()]
    assert names == ["reference", "portable", "ssse3", "avx2", "avxvnni", "avx512vnni", "amx"]


def test_portable_runs_everywhere(library: str) -> None:
    """Its sources ask for no instruction set, so every build has it and every processor runs it."""
    assert "portable" in detected_paths()


def run(path: str, node: Node, feeds: dict[str, np.ndarray]) -> np.ndarray:
    runtime_ops.select_cpu_path(path)
    try:
        return node.run(feeds)
    finally:
        runtime_ops.select_cpu_path(None)


@pytest.mark.parametrize("path", [path for path in detected_paths() if path not in ("reference", "portable")])
@pytest.mark.parametrize("name", [*MODES, "blocks", "attention"])
def test_same_bits(path: str, name: str) -> None:
    """Every path that has kernels gives the output of the portable one, every rounding included."""
    node, feeds = {"blocks": blocks, "attention": attention}.get(name, lambda: grouped(name))()
    expected = run("portable", node, feeds)
    assert np.isfinite(expected).all() and np.ptp(expected) > 0
    np.testing.assert_array_equal(run(path, node, feeds), expected)
