"""NaN and infinity at run time: they stay in their image, and integers stay in their range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler import runtime_ops
from qcompiler.ir.functions import functions_for

from ..runtime_ops.nodes import (
    F32,
    MODES,
    Node,
    attention_node,
    block_attention_node,
    block_node,
    linear_node,
    probability_table,
    random_table,
    random_weight,
)

RNG = np.random.default_rng(7)
CHANNELS, OUTPUTS, HEADS = 24, 9, 2
LEVELS = np.arange(16, dtype=np.uint8)
BAD = {"nan": np.nan, "infinity": np.inf, "minus infinity": -np.inf, "largest": np.finfo(F32).max}


def nodes() -> dict[str, Node]:
    weight = random_weight(RNG, CHANNELS, OUTPUTS, False)
    small = {"w_scale": np.full(OUTPUTS, 0.01, F32), "bias": RNG.normal(size=OUTPUTS).astype(F32)}
    affine = RNG.uniform(0.5, 2, CHANNELS).astype(F32), RNG.normal(size=CHANNELS).astype(F32)
    norm = {"norm": affine, "epsilon": 1e-5}
    found = {"blocks": block_node(weight, bits=4, block=8, **small)}
    gelu = {"gelu": True, "approximate": "none"}
    found["rotated blocks"] = block_node(weight, bits=4, block=8, rotate=8, **small, **norm, **gelu)
    for mode, (axis, segments) in MODES.items():
        table = random_table(RNG, mode, 4, 5)
        found[mode] = linear_node(weight, table, bits=4, axis=axis, segments=segments, normalize=0, **small)
        found[f"{mode} behind LayerNormalization"] = linear_node(
            weight, table, bits=4, axis=axis, segments=segments, **small, **norm, normalize=1
        )
    tables = [*(random_table(RNG, "bytes", 4, 3) for _ in range(3)), probability_table(RNG, 16, 3)]
    found["attention"] = attention_node(tables, LEVELS, num_heads=HEADS, scale=0.5, bits=4)
    found["attention in blocks"] = block_attention_node(
        tables[3], LEVELS, num_heads=HEADS, scale=0.5, qk_bits=4, v_bits=5, block=2
    )
    return found


NODES = nodes()


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", NODES)
def test_they_stay_in_their_image(cpu_path: str, name: str, bad: str) -> None:
    """The other images have the bits that they have without it, and every run gives the same."""
    node = NODES[name]
    session = node.session()
    x = RNG.normal(size=(3, 11, CHANNELS)).astype(F32)
    (clean,) = session.run(None, {node.inputs[0]: x})
    for place in ((1, 0, 0), (1, 4, 17), (1, 10, 23)):
        spoilt = x.copy()
        spoilt[place] = BAD[bad]
        (found,) = session.run(None, {node.inputs[0]: spoilt})
        np.testing.assert_array_equal(found[[0, 2]], clean[[0, 2]])
        (again,) = session.run(None, {node.inputs[0]: spoilt})
        assert again.tobytes() == found.tobytes()


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("mode", MODES)
def test_operands_stay_in_range(cpu_path: str, mode: str, bad: str) -> None:
    """Groups have fixed steps: the result is finite, and no larger than the largest codes make it."""
    axis, segments = MODES[mode]
    node = linear_node(
        np.full((CHANNELS, 1), 127, np.int8), random_table(RNG, mode, 4, 5), bits=4, axis=axis, segments=segments
    )
    x = RNG.normal(size=(1, 5, CHANNELS)).astype(F32)
    x[0, 2, 3] = BAD[bad]
    y = node.run({"X": x})
    steps = node.constants["groups"][:, 2]
    assert np.isfinite(y).all()
    assert np.abs(y).max() <= CHANNELS * 127 * 15 * steps.max() * 1.001


@pytest.mark.parametrize("name", NODES)
def test_bodies(name: str) -> None:
    """Without the library: a result with the other image intact, or an error.

    Attention looks its levels up, and ONNX Runtime refuses the index that a probability of NaN becomes.
    """
    node = NODES[name]
    model = node.model(functions=functions_for([node.op]))
    session = runtime_ops.session(model, threads=1, library=False)
    for value in BAD.values():
        x = RNG.normal(size=(2, 5, CHANNELS)).astype(F32)
        x[1, 2, 3] = value
        message, y = _run(session, {node.inputs[0]: x})
        if y is None:
            assert "attention" in name and "indices element out of data bounds" in message
        else:
            assert np.isfinite(y[0]).all()


def _run(session: Any, feeds: dict[str, np.ndarray]) -> tuple[str, np.ndarray | None]:
    """A message or a result."""
    try:
        return "", session.run(None, feeds)[0]
    except Exception as error:  # onnxruntime's exceptions have no base of their own
        return str(error), None
